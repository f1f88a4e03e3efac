/*
 * proxy/supervise.h - `supervise PID`, what a process becomes when another has taken its place: it
 * stands for that one before whoever started it (a container engine, a shell). Signals go on, and
 * its exit code is ours. It holds no memory worth naming.
 */
#ifndef LT_PROXY_SUPERVISE_H
#define LT_PROXY_SUPERVISE_H

/* Until the last child has ended; its exit code, or 128 + n. */
int px_supervise(void);

#endif
