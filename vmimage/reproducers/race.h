/*
 * Threads that do the same thing over and over until the time of the case is
 * up or one of them has seen what should not be.
 */
#ifndef RACE_H
#define RACE_H

#include <stdbool.h>

struct race;

/* One step; the race is over when it returns true: something went wrong. */
typedef bool race_step(void *context);

/* Skips on a guest with one CPU: nothing races there. */
struct race *race_start(unsigned int seconds);
void race_add(struct race *race, race_step *step, void *context);
/*
 * Runs the step in this thread until it is over, waits for the others and says
 * how often each had its turn.  True if any saw something wrong.  Bails out if
 * one never had a turn, for then there was no race.
 */
bool race_run(struct race *race, race_step *step, void *context);

#endif
