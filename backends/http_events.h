/* What curl's multi handle waits for: sockets by epoll, one timer. A request costs what happens to it, however many others are
 * under way; curl_multi_perform and curl_multi_poll look at all of them each time something happens to one.
 *
 * All of one thread, the one that owns the multi handle, but http_events_wake. */
#pragma once

#include <curl/curl.h>

struct http_events;

/* 0, -errno. To be freed after curl_multi_cleanup, which still closes sockets. */
int http_events_new(CURLM *multi, struct http_events **ret);
void http_events_free(struct http_events *v);

/* Once for each handle that is to be added: sees its sockets come and go. Not known here, a closed socket's successor under the
 * same number would not be waited for. */
void http_events_handle(struct http_events *v, CURL *easy);

/* Lets curl do what is due: new handles, answers, timers. Waits at most ms for something to happen. */
void http_events_run(struct http_events *v, int ms);

/* http_events_run returns, now or at its next call. Any thread. */
void http_events_wake(struct http_events *v);
