/*-------------------------------------------------------------------------
 *
 * slide.c
 *		In which batches a query has something to read.
 *
 * Sources and what is made of them have rows in every batch.  A windowed stream has
 * rows in the batches in which it fires, and whatever reads it runs in those alone.  So
 * what is read together must fire together: the slide of a query is that of all the
 * streams in it, or the query is refused.  Derived streams inherit the slide of what
 * they read; a window has its own, a multiple of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"

static SxSlide
stream_slide(Oid relid)
{
	char	   *json = sx_step_options(relid, NULL, NULL);
	SxReads		reads = sx_relation_reads(relid);

	return sx_slide_of(json == NULL ? NIL : sx_options_from_json(json), &reads);
}

SxSlide
sx_slide_of(List *options, const SxReads *reads)
{
	const char *slide = sx_option(options, "slide");
	SxSlide		result = sx_reads_slide(reads);

	if (sx_option(options, "window") != NULL && slide != NULL)
	{
		result.span = sx_span_option("slide", slide);
		result.every = result.every && result.span.batches && result.span.n == 1;
	}
	return result;
}

char *
sx_slide_text(SxSlide slide)
{
	return slide.every ? pstrdup("every batch") : psprintf("every %s", sx_span_text(slide.span));
}

static bool
same_slide(SxSlide a, SxSlide b)
{
	return a.every == b.every &&
		(a.every || (a.span.batches == b.span.batches && a.span.n == b.span.n));
}

static void
refuse_different(Oid one, SxSlide slide, Oid other, SxSlide other_slide)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("streams of different slides cannot be read together"),
			 errdetail("%s has rows %s, %s has rows %s.", sx_qualified_name(one),
					   sx_slide_text(slide), sx_qualified_name(other),
					   sx_slide_text(other_slide)),
			 errhint("Give windows that are joined or united the same option \"slide\"; what has rows in every batch can be made a window with that slide.")));
}

SxSlide
sx_reads_slide(const SxReads *reads)
{
	SxSlide		result = {.every = true};
	Oid			first = reads->sources != NIL ? linitial_oid(reads->sources) : InvalidOid;
	ListCell   *lc;

	foreach(lc, reads->derived)
	{
		SxSlide		slide = stream_slide(lfirst_oid(lc));

		if (OidIsValid(first) && !same_slide(result, slide))
			refuse_different(first, result, lfirst_oid(lc), slide);
		first = lfirst_oid(lc);
		result = slide;
	}
	return result;
}

void
sx_check_slides(const SxReads *reads)
{
	(void) sx_reads_slide(reads);
}
