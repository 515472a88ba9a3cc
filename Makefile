# streamext: how it is built, installed and tested.
#
#   make                  builds the library and the helper program
#   make install          into the server that PG_CONFIG names
#   make demo             a private server with a running stream, on screen
#   make test             every test; ends with "N passed, N failed"
#   make check-SUITE      one suite: build regress isolation pgtap tap golden oracle docs
#   make test-oracle      the randomised oracle alone: CASES=10000 cases, from seed SX_SEED
#   make test-kafka       the tests that need a real Kafka
#   make test-faults      the tests that inject faults, at full size, and their table
#   make SANITIZE=1 …     the same with AddressSanitizer and UBSan
#
# demo and test install what is missing, so they work where pg_config and the
# server's headers are not there yet: everything that needs PGXS is conditional.

PG_CONFIG ?= pg_config

EXTENSION = streamext
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" streamext.control)
MODULE_big = streamext
HELPER = streamext-kafka

# src/kafka/helper*.c is the helper program, all else is the library.  Nothing
# else may see librdkafka, and the library must not be linked with it.
HELPER_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/kafka/helper*.c)))
LIBRARY_SRCS = $(filter-out src/kafka/helper%,$(sort $(wildcard src/*.c src/*/*.c)))
OBJS = $(LIBRARY_SRCS:.c=.o) $(patsubst %.cpp,%.o,$(sort $(wildcard src/*/*.cpp)))

DATA = $(wildcard sql/$(EXTENSION)--*--*.sql)
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql
PGFILEDESC = "streamext - stream processing inside PostgreSQL"

# Regression tests need the library preloaded: test/run starts such a server.
NO_INSTALLCHECK = 1
EXTRA_CLEAN = $(HELPER) $(HELPER_OBJS) $(DATA_built) .build-flags \
	$(patsubst %.o,%.d,$(OBJS) $(HELPER_OBJS)) $(BENCH_PROGRAMS)

WARNINGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type
PG_CPPFLAGS = -Isrc -D_GNU_SOURCE -DSX_VERSION='"$(EXTVERSION)"' -MMD -MP
PG_CFLAGS = $(WARNINGS)
PG_CXXFLAGS = -std=c++17 -O2 -fPIC -fno-exceptions $(WARNINGS)
SHLIB_LINK = -lsimdjson -lstdc++
HELPER_LIBS = -lrdkafka -lpthread

ifdef SANITIZE
SANITIZE_FLAGS = -fsanitize=address,undefined -fno-omit-frame-pointer -O1
PG_CFLAGS += $(SANITIZE_FLAGS)
PG_CXXFLAGS += $(SANITIZE_FLAGS)
SHLIB_LINK += -fsanitize=address,undefined
HELPER_LIBS += -fsanitize=address,undefined
endif

.DEFAULT_GOAL = all
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

ifneq ($(PGXS),)

# The bitcode for the JIT would need clang, and gains nothing here.
override with_llvm = no
include $(PGXS)

# AddressSanitizer does not see what the fortified functions do.
ifdef SANITIZE
override CPPFLAGS += -U_FORTIFY_SOURCE
endif

all: $(HELPER)

$(HELPER): $(HELPER_OBJS)
	$(CC) $(CFLAGS) $^ $(LDFLAGS) $(HELPER_LIBS) -o $@

%.o: %.cpp
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<

sql/$(EXTENSION)--$(EXTVERSION).sql: sql/$(EXTENSION).sql streamext.control
	cp $< $@

install: install-helper
install-helper: $(HELPER) installdirs
	$(INSTALL_PROGRAM) $(HELPER) '$(DESTDIR)$(pkglibdir)/$(HELPER)'

uninstall: uninstall-helper
uninstall-helper:
	rm -f '$(DESTDIR)$(pkglibdir)/$(HELPER)'

# Objects are made anew when the flags change, for instance with SANITIZE=1, and
# when a header changes (the .d files, written by -MMD).
BUILD_FLAGS = $(CC) $(CFLAGS) $(CXX) $(CXXFLAGS) $(CPPFLAGS)
.build-flags: FORCE
	@echo '$(BUILD_FLAGS)' | cmp -s - $@ || echo '$(BUILD_FLAGS)' > $@
$(OBJS) $(HELPER_OBJS): .build-flags Makefile
-include $(patsubst %.o,%.d,$(OBJS) $(HELPER_OBJS))

.PHONY: FORCE install-helper uninstall-helper

else

NEED_SERVER = @echo "no PGXS found by \"$(PG_CONFIG)\": install postgresql-server-dev-15, \
	or name another pg_config with PG_CONFIG=…; make demo and make test install what is missing" >&2; exit 1

all install uninstall:
	$(NEED_SERVER)

clean:
	rm -f $(OBJS) $(MODULE_big).so $(EXTRA_CLEAN)

.PHONY: all install uninstall clean

endif

# Clients that the benchmarks and Kafka tests use; no part of the extension.
# bench/output.c is what the generators of events share.
BENCH_SHARED = bench/output.c
BENCH_PROGRAMS = $(patsubst %.c,%,$(filter-out $(BENCH_SHARED),$(wildcard bench/*.c)))
bench: $(BENCH_PROGRAMS)
bench/%_produce: bench/%_produce.c $(BENCH_SHARED) bench/output.h
	$(CC) -std=gnu11 -O2 $(WARNINGS) -o $@ $< $(BENCH_SHARED) -lrdkafka -lpthread -lm
bench/%: bench/%.c
	$(CC) -std=gnu11 -O2 $(WARNINGS) -o $@ $< -lrdkafka -lpthread -lm

# ------------------------------------------------------------------ demo, tests
SUITES = build regress isolation pgtap tap golden oracle docs

demo:
	@test/demo start

demo-stop:
	@test/demo stop

test:
	+@test/run

$(addprefix check-,$(SUITES)): check-%:
	+@test/run $*

test-kafka:
	+@test/run kafka

test-oracle:
	+@CASES=$(or $(CASES),10000) test/run oracle

test-faults:
	+@test/run faults

.PHONY: bench demo demo-stop test test-kafka test-oracle test-faults $(addprefix check-,$(SUITES))
