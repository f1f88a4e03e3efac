/*
 * bench/micro/metric.c - what counting costs: one series in hand, and a series found by its labels.
 * Usage: bench_metric [rounds].
 */
#include "base/metric.h"
#include "micro.h"

int main(int argc, char **argv)
{
    long rounds = micro_rounds(argc, argv, 10000000);
    struct lt_counter counter = {0};
    struct lt_histogram *histogram = lt_calloc(1, sizeof(*histogram) +
                                                      (LT_BUCKETS_MAX + 1) * sizeof(uint64_t));
    histogram->buckets = &lt_buckets_envoy;
    printf("metrics\n");
    uint64_t begin = micro_ns();
    for (long i = 0; i < rounds; i++) {
        lt_counter_add(&counter, 1);
        micro_use(&counter);
    }
    micro_report("counter, pointer in hand", begin, micro_ns(), rounds);
    begin = micro_ns();
    for (long i = 0; i < rounds; i++) {
        lt_histogram_observe(histogram, (double)(i & 1023));
        micro_use(histogram);
    }
    micro_report("histogram, 0 to 1023 ms", begin, micro_ns(), rounds);
    free(histogram);
    return 0;
}
