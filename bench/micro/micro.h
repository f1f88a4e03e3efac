/*
 * bench/micro/micro.h - the clock of the micro-benches.
 * For instruction counts run one under callgrind with two numbers of rounds and take the difference:
 * tools differ in what the start costs, not in the slope.
 */
#ifndef LT_BENCH_MICRO_H
#define LT_BENCH_MICRO_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t micro_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline long micro_rounds(int argc, char **argv, long otherwise)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : otherwise;
    return rounds > 0 ? rounds : otherwise;
}

static inline void micro_report(const char *what, uint64_t from, uint64_t to, long rounds)
{
    printf("  %-44s %10.1f ns\n", what, (double)(to - from) / (double)rounds);
}

/* Keeps the compiler from leaving out what nobody reads. */
static inline void micro_use(const void *pointer)
{
    __asm__ volatile("" : : "r"(pointer) : "memory");
}

#endif
