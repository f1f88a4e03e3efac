/*
 * proxy/agent/scrape.h - the application's own metrics, for the status port: fetched from where its
 * prometheus.io annotations say (ISTIO_PROMETHEUS_ANNOTATIONS), put behind ours. What the
 * application answers is its own business: a failure costs it its part and nothing else.
 */
#ifndef LT_PROXY_AGENT_SCRAPE_H
#define LT_PROXY_AGENT_SCRAPE_H

#include "http/server.h"

struct px_scraper;

/* What the application said. */
struct px_app_metrics {
    const char *content_type; /* static: of the whole page */
    struct lt_buf text;       /* it ends with a line end */
};

/* json: annotations; empty or with scrape "false": *ret_scraper is NULL. */
LT_MUST lt_rc px_scraper_new(struct lt_loop *loop, lt_str json, uint16_t status_port,
                             struct px_scraper **ret_scraper, struct lt_err *err);
/* Ends what runs: its exchanges are answered, on_done does not come. */
void px_scraper_free(struct px_scraper **scraper);
uint64_t px_scraper_failures(const struct px_scraper *scraper);

/* metrics: owned by the callee; NULL: there are none. */
typedef void px_scraped_fn(void *ctx, struct lt_exchange *exchange, struct px_app_metrics *metrics);
/* Asks for exchange, with its Accept, User-Agent and timeout. on_done comes later, once. */
void px_scraper_start(struct px_scraper *scraper, struct lt_exchange *exchange,
                      px_scraped_fn *on_done, void *ctx);
void px_app_metrics_free(struct px_app_metrics **metrics);

#endif
