/*
 * proxy/process/run_job.h - `run -- COMMAND`: a job beside a sidecar, and `wait`, of pilot-agent,
 * that only waits. The job starts when the sidecar is ready; when it has ended the sidecar is told
 * to quit, so that a Pod whose sidecar is an ordinary container completes.
 */
#ifndef LT_PROXY_PROCESS_RUN_JOB_H
#define LT_PROXY_PROCESS_RUN_JOB_H

#include "base/env.h"

/*
 * argv[0] is "run" or "wait". The exit code: the job's (128 + n when a signal ended it), or one of
 * ours.
 */
int px_run_job(int argc, char **argv, const struct lt_env *env);

#endif
