# program.mk: builds the C program PROGRAM from SOURCES, pjfail's core and the pjproject tree PJPROJECT_DIR, without
# Python. OBJECTS is a folder of its own for the program. CFLAGS and LDFLAGS are added for all sources, CORE_CFLAGS for
# the core's only. tests/native/__init__.py runs this from the project's root.

include $(PJPROJECT_DIR)/build.mak

core := $(wildcard pjfail/_core/*.c)
objects := $(patsubst %.c,$(OBJECTS)/%.o,$(core) $(SOURCES))
flags := $(OBJECTS)/flags
used := $(abspath $(PJPROJECT_DIR)) $(CFLAGS) $(LDFLAGS) $(CORE_CFLAGS)

ifneq ($(used),$(shell cat '$(flags)' 2>/dev/null))
$(shell rm -rf '$(OBJECTS)' && mkdir -p '$(OBJECTS)' && echo '$(used)' >'$(flags)')
endif

compile = $(APP_CC) -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -Ipjfail/_core -Itests/native \
	$(APP_CFLAGS:-I%=-isystem %) $(CFLAGS) $(CORE_CFLAGS) -MMD -MP -c -o $@ $<

# -rdynamic: the core finds pjsip's functions by their names.
$(PROGRAM): $(objects) $(APP_LIB_FILES)
	$(APP_CC) -rdynamic -pthread $(LDFLAGS) -o $@ $(objects) $(APP_LDFLAGS) $(APP_LDLIBS)

$(patsubst %.c,$(OBJECTS)/%.o,$(SOURCES)): override CORE_CFLAGS :=

$(OBJECTS)/%.o: %.c $(flags)
	@mkdir -p $(@D)
	$(compile)

-include $(objects:.o=.d)
