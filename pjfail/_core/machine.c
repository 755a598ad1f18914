/* machine.c: tells of changes of this machine. pjfail.h declares what Python calls. */
#include "pjfail.h"

#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Longer than any process runs: the timer is there for its being cancelled. */
#define NEVER_S (100 * 365 * 86400L)

int pf_watch_clock(void)
{
    const int timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    const struct itimerspec never = { .it_value = { time(NULL) + NEVER_S, 0 } };

    if (timer >= 0 && timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) != 0) {
        close(timer);
        return -1;
    }
    return timer;
}

int pf_watch_files(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }

int pf_watch_file(int watch, const char *path)
{
    const unsigned content = IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

    return inotify_add_watch(watch, path, content | IN_CREATE | IN_DELETE | IN_MOVE) >= 0;
}
