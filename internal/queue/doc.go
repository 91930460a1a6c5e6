// Package queue delivers tasks to workers over NATS JetStream: embedded in the
// orchestrator's process, with a port only for workers on other machines. It
// takes bytes to a worker and brings bytes back; what a task does and what its
// answer means it does not know.
//
// It is never the record, and keeps nothing: tasks are in memory. A caller whose
// process died asks again for what its own record says is missing, under a new
// attempt, so that what was queued before is nobody's wish any more.
//
// Guaranteed, while the process lives:
//   - a task is run at least once, by workers that have the labels it needs, a
//     more urgent one before a less urgent one that is queued;
//   - one answer is taken, from the worker with the lease at that moment, or who
//     had it last while nobody has; any other is dropped with one line in the
//     log (fencing);
//   - a worker that is silent for AckWait loses its tasks to others; one that
//     cannot reach the server for so long is told through the task's context;
//   - a task that five workers died on is an error; one that is handed back in
//     order may be as often as it likes;
//   - a worker can pull tasks for all and its own, and speaks under its own
//     name only; no two have the same.
//
// Not guaranteed: that a task is run once (two workers may run it around a lost
// lease), nor the order within a priority.
package queue
