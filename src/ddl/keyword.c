/*-------------------------------------------------------------------------
 *
 * keyword.c
 *		Makes STREAM a keyword behind CREATE, ALTER and DROP.
 *
 * The server's keyword list is one struct, ScanKeywords, that its lexer consults
 * for every identifier: ScanKeywordLookup() calls ScanKeywords.hash(word) and then
 * compares the word with the string that the returned index points at.  At preload
 * (in the postmaster, inherited by fork) we put in private copies of the strings,
 * with "stream" appended, of the offsets, and our own hash function.  For the word
 * STREAM in the place where TABLE could stand, that function answers the index of
 * TABLE and lets the offset of TABLE point at "stream" for this one comparison; so
 * the grammar parses the statement as CREATE / ALTER / DROP TABLE, and the
 * ProcessUtility hook takes it from there.  Every other word goes to the original
 * function unchanged.
 *
 * What is the place where TABLE could stand?  The text before the word tells
 * (statement.c), and the hash function is given nothing but the word.  Remembering
 * where the words before it were does not do: the function is also called for
 * words that no lexer reads (quote_identifier), and a text that was parsed before
 * may be freed, so no remembered pointer is safe to follow.  Instead the lexer's own
 * record of its buffer is looked up each time: raw_parser() keeps it, a
 * core_yy_extra_type, in its stack frame, and while the lexer runs that frame is a
 * few levels above ours.  The unwinder gives its bounds.  The record is taken only
 * if it has both keyword tables of the server in it and a buffer that holds the
 * word that we were given; then every byte that is read lies between the start of
 * that live buffer and the end of the word.  Nothing is kept from one call to the
 * next but a flag that saves the search for words that do not follow a verb.
 *
 * All of this is tried out on one statement at start.  Where it does not work, or
 * where the page of ScanKeywords was not made read-only by the dynamic linker
 * (PT_GNU_RELRO), nothing is changed, one line is logged, and CREATE FOREIGN TABLE
 * ... SERVER streamext does the same as CREATE STREAM.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include "common/keywords.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "parser/scanner.h"
#include "utils/memutils.h"

#include "ddl/ddl_internal.h"
#include "streamext.h"

#define STREAM_WORD		"stream"

/* hash, ScanKeywordLookup, core_yylex, base_yylex, base_yyparse, raw_parser */
#define MAX_FRAMES		12

static ScanKeywordList original;
static uint16 *offsets = NULL;	/* the copy in use */
static int	table_index;
static uint16 table_offset;
static uint16 stream_offset;
static bool after_verb = false;

/* The stack frame of raw_parser. */
typedef struct FrameSearch
{
	uintptr_t	low;
	uintptr_t	high;
	int			depth;
} FrameSearch;

/*
 * Called for each frame, innermost first.  The "canonical frame address" that the
 * unwinder gives with a frame is the stack pointer within it, so one frame's
 * bounds are its own address and that of its caller.
 */
static _Unwind_Reason_Code
find_raw_parser(struct _Unwind_Context *context, void *arg)
{
	FrameSearch *search = arg;

	if (search->low != 0)
	{
		search->high = _Unwind_GetCFA(context);
		return _URC_END_OF_STACK;
	}
	if ((uintptr_t) _Unwind_GetRegionStart(context) == (uintptr_t) raw_parser)
		search->low = _Unwind_GetCFA(context);
	return ++search->depth < MAX_FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

/*
 * The record of the scan in progress, if word lies in its buffer, else NULL.  The
 * frame is live stack, whoever owns the bytes, so reading it word by word is safe.
 */
static pg_noinline
#if defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize_address))
#endif
const core_yy_extra_type *
find_scan(const char *word, size_t len)
{
	FrameSearch search = {0};
	uintptr_t	p;

	_Unwind_Backtrace(find_raw_parser, &search);
	if (search.high <= search.low)
		return NULL;

	for (p = TYPEALIGN(MAXIMUM_ALIGNOF, search.low);
		 p + sizeof(core_yy_extra_type) <= search.high;
		 p += MAXIMUM_ALIGNOF)
	{
		const core_yy_extra_type *scan = (const core_yy_extra_type *) p;

		if (scan->keywordlist == &ScanKeywords &&
			scan->keyword_tokens == ScanKeywordTokens &&
			word >= scan->scanbuf &&
			word + len <= scan->scanbuf + scan->scanbuflen)
			return scan;
	}
	return NULL;
}

/* STREAM may follow these words, as far as the word alone tells. */
static bool
may_precede_stream(const char *word, size_t len)
{
	switch (len)
	{
		case 4:
			return pg_strncasecmp(word, "drop", 4) == 0 ||
				pg_strncasecmp(word, "temp", 4) == 0;
		case 5:
			return pg_strncasecmp(word, "alter", 5) == 0;
		case 6:
			return pg_strncasecmp(word, "create", 6) == 0;
		case 8:
			return pg_strncasecmp(word, "unlogged", 8) == 0;
		case 9:
			return pg_strncasecmp(word, "temporary", 9) == 0;
		default:
			return false;
	}
}

static bool
is_stream_keyword(const char *word, size_t len)
{
	const core_yy_extra_type *scan = find_scan(word, len);

	return scan != NULL &&
		sx_is_stream_keyword(scan->scanbuf, word,
							 scan->standard_conforming_strings);
}

/* Takes the place of ScanKeywords.hash. */
static int
keyword_hash(const void *key, size_t len)
{
	const char *word = key;
	bool		candidate = after_verb;

	after_verb = may_precede_stream(word, len);
	offsets[table_index] = table_offset;

	if (candidate && len == strlen(STREAM_WORD) &&
		pg_strncasecmp(word, STREAM_WORD, len) == 0 &&
		is_stream_keyword(word, len))
	{
		offsets[table_index] = stream_offset;
		return table_index;
	}
	return original.hash(key, len);
}

/*
 * The offset of TABLE stays changed until the next word is looked up; this puts
 * it right before anybody (pg_get_keywords) reads the list in between.
 */
void
sx_keyword_restore(void)
{
	if (offsets != NULL)
		offsets[table_index] = table_offset;
}

/* Private copies of strings and offsets, which live as long as the process. */
static ScanKeywordList
extended_list(void)
{
	ScanKeywordList list = ScanKeywords;
	int			last = list.num_keywords - 1;
	size_t		size;
	char	   *strings;

	size = list.kw_offsets[last] + strlen(GetScanKeyword(last, &ScanKeywords)) + 1;
	strings = MemoryContextAlloc(TopMemoryContext, size + sizeof(STREAM_WORD));
	memcpy(strings, list.kw_string, size);
	memcpy(strings + size, STREAM_WORD, sizeof(STREAM_WORD));

	offsets = MemoryContextAlloc(TopMemoryContext,
								 list.num_keywords * sizeof(uint16));
	memcpy(offsets, list.kw_offsets, list.num_keywords * sizeof(uint16));
	stream_offset = (uint16) size;
	table_offset = offsets[table_index];

	list.kw_string = strings;
	list.kw_offsets = offsets;
	list.hash = keyword_hash;
	return list;
}

/* Does ScanKeywords lie in a segment that was made read-only after relocation? */
static int
in_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t	address = (uintptr_t) &ScanKeywords;

	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t	start = info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type == PT_GNU_RELRO && address >= start &&
			address + sizeof(ScanKeywords) <= start + segment->p_memsz)
			return 1;
	}
	return 0;
}

/* Overwrites ScanKeywords; its page is writable for this one assignment. */
static bool
set_keywords(const ScanKeywordList *list)
{
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	start = (uintptr_t) &ScanKeywords & ~(page - 1);
	uintptr_t	end = TYPEALIGN(page, (uintptr_t) (&ScanKeywords + 1));

	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		return false;
	memcpy(unconstify(ScanKeywordList *, &ScanKeywords), list, sizeof(*list));
	if (mprotect((void *) start, end - start, PROT_READ) != 0)
		elog(LOG, "could not protect the keyword list again: %m");
	return true;
}

/* Does a CREATE STREAM parse, and does the word keep its other meaning? */
static bool
try_out(void)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "streamext keyword",
												  ALLOCSET_SMALL_SIZES);
	volatile bool works = false;

	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		List	   *parsed = raw_parser("ALTER TABLE t DROP stream; "
										"CREATE STREAM s (stream text)",
										RAW_PARSE_DEFAULT);

		works = list_length(parsed) == 2;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return works;
}

static void
log_unavailable(const char *reason)
{
	ereport(LOG,
			(errmsg("the syntax CREATE STREAM is not available: %s", reason),
			 errhint("CREATE FOREIGN TABLE ... SERVER streamext does the same.")));
}

void
sx_keyword_init(void)
{
	ScanKeywordList list;

	if (!process_shared_preload_libraries_in_progress ||
		!sx_create_stream_syntax || offsets != NULL)
		return;
	if (dl_iterate_phdr(in_relro, NULL) == 0)
	{
		log_unavailable("the keyword list of this server is not where it is expected");
		return;
	}

	original = ScanKeywords;
	table_index = ScanKeywordLookup("table", &ScanKeywords);
	list = extended_list();
	if (!set_keywords(&list))
	{
		log_unavailable("the keyword list cannot be made writable");
		return;
	}
	if (!try_out())
	{
		set_keywords(&original);
		log_unavailable("the parser of this server is built in a way that is not known");
	}
}
