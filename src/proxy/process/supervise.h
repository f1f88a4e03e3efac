/*
 * proxy/process/supervise.h - `supervise PID`, what a process becomes when another has taken its
 * place: it stands for that one before whoever started it (a container engine, a shell). Signals go
 * on, and its exit code is ours. It holds no memory worth naming.
 */
#ifndef LT_PROXY_PROCESS_SUPERVISE_H
#define LT_PROXY_PROCESS_SUPERVISE_H

/* The code of who was replaced: the one that took the place says how it was. */
enum { PX_EXIT_FOLLOWS = 75 };

#include <stdbool.h>

/* To all children. */
void px_supervise_pass_on(int number);
/* False: no child is left, and *code is what the last one said that was not replaced. */
bool px_supervise_reap(int *code);
/* Until the last child has ended; its exit code, or 128 + n. */
int px_supervise(void);

#endif
