#include "course.h"

#include "plans.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Requests beyond this many are sent, but not steered. */
enum { MOST_COURSES = 16384 };

/* A server that could not be connected to, or has lost its connection, is tried again after this, when no other has answered. */
#define AGAIN 1.0

/* One that no connect was due to is tried after this. */
#define RETRY 0.1

struct courses courses = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct course *course_find(uint64_t hash)
{
    struct link *link = table_first(&courses.table, hash);

    return link ? entry_of(link, struct course, link) : NULL;
}

int course_put(struct course *course, uint64_t hash)
{
    course->link.hash = hash;
    if (course_find(hash) || courses.table.count >= MOST_COURSES || !table_put(&courses.table, &course->link))
        return 0;
    course->listed = 1;
    course->older = courses.newest;
    *(courses.newest ? &courses.newest->newer : &courses.oldest) = course;
    courses.newest = course;
    return 1;
}

struct course *course_hold(uint64_t hash)
{
    struct course *course;

    pthread_mutex_lock(&courses.lock);
    course = course_find(hash);
    if (course)
        course->refs++;
    pthread_mutex_unlock(&courses.lock);
    return course;
}

void course_release(struct course *course)
{
    unsigned left;

    pthread_mutex_lock(&courses.lock);
    left = --course->refs;
    pthread_mutex_unlock(&courses.lock);
    if (left)
        return;
    if (course->udp)
        host.pjsip_transport_dec_ref(course->udp);
    if (course->kept)
        host.pjsip_rx_data_free_cloned(course->kept);
    free(course);
}

int course_take_out(struct course *course)
{
    if (!course->listed)
        return 0;
    course->listed = 0;
    table_remove(&courses.table, &course->link);
    *(course->older ? &course->older->newer : &courses.oldest) = course->newer;
    *(course->newer ? &course->newer->older : &courses.newest) = course->older;
    return 1;
}

void course_forget(struct course *course)
{
    int out;

    pthread_mutex_lock(&courses.lock);
    out = course_take_out(course);
    pthread_mutex_unlock(&courses.lock);
    if (out)
        course_release(course);
}

struct leg *course_leg_of(struct course *course, const pf_address *server)
{
    unsigned i;

    for (i = 0; i < course->count; i++)
        if (!memcmp(&course->legs[i].server, server, sizeof *server))
            return &course->legs[i];
    return NULL;
}

/* Under courses.lock. */
static uint64_t candidate_bits(const struct course *course, const pf_address *server)
{
    uint64_t bits = 0;
    unsigned i;

    for (i = 0; i < course->candidate_count; i++)
        if (!memcmp(&course->candidates[i], server, sizeof *server))
            bits |= UINT64_C(1) << i;
    return bits;
}

void course_note_unreachable(struct course *course, const pf_address *server)
{
    course->unreachable |= candidate_bits(course, server);
    course->again = host_now() + AGAIN;
}

void course_note_withheld(struct course *course, const pf_address *server)
{
    course->withheld |= candidate_bits(course, server);
    course->retry = host_now() + RETRY;
}

struct leg *course_add_leg(struct course *course, const pf_address *server, const pjsip_transport *transport, double now)
{
    struct leg *leg = course_leg_of(course, server);

    if (!leg && course->count < MOST_LEGS)
        leg = &course->legs[course->count++];
    if (leg) {
        memset(leg, 0, sizeof *leg);
        leg->server = *server;
        leg->transport = transport;
        leg->first_sent = leg->last_sent = now;
        leg->sends = 1;
    }
    course->tried |= candidate_bits(course, server);
    return leg;
}

unsigned course_pending_legs(const struct course *course)
{
    unsigned count = 0, i;

    for (i = 0; i < course->count; i++)
        count += !course->legs[i].ended;
    return count;
}

int course_next_candidate(const struct course *course)
{
    int best = -1, best_rank = 0, i;

    if (course->count >= courses.attempts)
        return -1;
    for (i = 0; i < (int)course->candidate_count; i++) {
        uint64_t bit = UINT64_C(1) << i;
        int rank;

        if (course->tried & bit)
            continue;
        rank = (course->last_resorts & bit ? 2 : 0) + plans_is_suspect(&course->candidates[i]);
        if (best < 0 || rank < best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}
