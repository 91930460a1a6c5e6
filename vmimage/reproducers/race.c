#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "race.h"
#include "repro.h"

#define THREADS 4

struct runner {
	struct race *race;
	race_step *step;
	void *context;
	pthread_t thread;
	unsigned long turns;
};

struct race {
	_Atomic bool over, wrong;
	time_t until;
	unsigned int threads;
	struct runner runners[THREADS];
};

static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

struct race *race_start(unsigned int seconds)
{
	struct race *race = calloc(1, sizeof(*race));

	if (!race)
		bail_out("calloc");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip("one CPU: nothing races");
	race->until = now() + seconds;
	return race;
}

static void *run(void *context)
{
	struct runner *runner = context;
	struct race *race = runner->race;

	while (!atomic_load(&race->over)) {
		runner->turns++;
		if (runner->step(runner->context)) {
			atomic_store(&race->wrong, true);
			atomic_store(&race->over, true);
		}
	}
	return NULL;
}

void race_add(struct race *race, race_step *step, void *context)
{
	struct runner *runner = &race->runners[race->threads++];

	*runner = (struct runner){ race, step, context, 0, 0 };
	errno = pthread_create(&runner->thread, NULL, run, runner);
	if (errno)
		bail_out("pthread_create");
}

bool race_run(struct race *race, race_step *step, void *context)
{
	unsigned long turns = 0;

	errno = 0;
	while (!atomic_load(&race->over)) {
		turns++;
		if (step(context)) {
			atomic_store(&race->wrong, true);
			break;
		}
		if (now() >= race->until)
			break;
	}
	atomic_store(&race->over, true);
	for (unsigned int i = 0; i < race->threads; i++) {
		struct runner *runner = &race->runners[i];

		pthread_join(runner->thread, NULL);
		diagnostic("thread %u had %lu turns while the first had %lu",
			   i + 2, runner->turns, turns);
		errno = 0;
		if (!runner->turns)
			bail_out("a thread had no turn: no race");
	}
	return atomic_load(&race->wrong);
}
