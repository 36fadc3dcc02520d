/* A fast backend that speaks the OpenAI wire format, for measuring what stands in front of it. One thread, epoll.
 *
 *     cc -O2 -o backend backend.c
 *     ./backend [PORT]          # 0 or none: any free port; says "listening PORT" on standard output
 *
 * POST (any path): a chat completion. "stream": true gives server-sent events, one HTTP chunk and one send() an event.
 * A plan anywhere in the body, five numbers, says how it is answered, and survives every gateway that passes prompts on:
 *
 *     [[bench CHUNKS PACE_US FIRST_MS BREAK]]     without one: 20 chunks at once
 *
 * CHUNKS pieces of content, PACE_US microseconds apart (0: as fast as the reader takes them), the first (or the whole
 * reply) after FIRST_MS milliseconds. BREAK, where it is not negative: the connection is cut after so many pieces; 0 answers 500.
 * Each piece of content is "~" and nine hexadecimal digits: the microseconds of CLOCK_MONOTONIC, modulo 2^36, at which it
 * was sent. A stream ends with finish_reason, usage (17 in, CHUNKS out) and [DONE].
 *
 * GET /counts: what was done so far, as JSON; any other GET: a list with one model. SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, REQUEST_MAX = 64 << 20, ID_DIGITS = 16, STAMP_DIGITS = 9 };

typedef struct {
    int chunks, pace_us, first_ms, breaks;
} plan_t;

typedef enum { READING, WAITING, STREAMING } doing_t;

typedef struct conn {
    int fd, heap_at;   /* place in the heap of timers; -1: none */
    int listens;       /* whether epoll tells when it is writable */
    int dead;
    doing_t doing;
    int streamed;      /* the reply under way is a stream */
    int sent;          /* pieces of content so far */
    plan_t plan;
    int64_t due;       /* microseconds; when the next piece is to leave */
    uint64_t serial;   /* of this reply's id */
    char *in, *out;
    size_t in_len, in_cap, out_len, out_at, out_cap;
    struct conn *next; /* list of streams that are to go on at once, or of the dead */
    int listed;
} conn_t;

static struct {
    uint64_t requests, replies, streams, streams_done, chunks, cut, left;
} counts;

static int poller;
static volatile sig_atomic_t stopping;
static uint64_t serial;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- timers: a binary heap by the instant that is due -------------------------------------------------------------- */

static conn_t **heap;
static int heap_len, heap_cap;

static void heap_put(int at, conn_t *c) {
    heap[at] = c;
    c->heap_at = at;
}

static void heap_up(int at, conn_t *c) {
    for (; at && heap[(at - 1) / 2]->due > c->due; at = (at - 1) / 2) heap_put(at, heap[(at - 1) / 2]);
    heap_put(at, c);
}

static void heap_down(int at, conn_t *c) {
    for (int child; (child = 2 * at + 1) < heap_len; at = child) {
        if (child + 1 < heap_len && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        heap_put(at, heap[child]);
    }
    heap_put(at, c);
}

static void timer_start(conn_t *c) {
    if (heap_len == heap_cap) heap = realloc(heap, (heap_cap = heap_cap * 2 + 64) * sizeof *heap);
    heap_up(heap_len++, c);
}

static void timer_stop(conn_t *c) {
    int at = c->heap_at;
    if (at < 0) return;
    c->heap_at = -1;
    conn_t *last = heap[--heap_len];
    if (last == c) return;
    heap_down(at, last);
    heap_up(last->heap_at, last);
}

/* --- lists ---------------------------------------------------------------------------------------------------------- */

static conn_t *eager, **eager_end = &eager, *dead;

static void go_on(conn_t *c) { /* a stream that goes on as soon as the others had their turn */
    if (c->listed || c->dead) return;
    c->listed = 1;
    c->next = NULL;
    *eager_end = c;
    eager_end = &c->next;
}

static void drop(conn_t *c) { /* freed after this turn: events of it may still be waiting */
    if (c->dead) return;
    c->dead = 1;
    if (c->doing != READING) counts.left++;
    timer_stop(c);
    close(c->fd);
    if (!c->listed) c->next = dead, dead = c;
}

static void bury(void) {
    while (dead) {
        conn_t *c = dead;
        dead = c->next;
        free(c->in);
        free(c->out);
        free(c);
    }
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

static void listen_for_room(conn_t *c, int on) {
    if (c->listens == on) return;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->listens = on;
}

static void keep(conn_t *c, const char *bytes, size_t n) {
    if (c->out_at + c->out_len + n > c->out_cap) {
        memmove(c->out, c->out + c->out_at, c->out_len);
        c->out_at = 0;
        if (c->out_len + n > c->out_cap) c->out = realloc(c->out, c->out_cap = (c->out_len + n) * 2);
    }
    memcpy(c->out + c->out_at + c->out_len, bytes, n);
    c->out_len += n;
    listen_for_room(c, 1);
}

static void put(conn_t *c, const char *bytes, size_t n) {
    ssize_t sent = 0;
    if (c->dead) return;
    if (!c->out_len) {
        sent = send(c->fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            drop(c);
            return;
        }
        if (sent < 0) sent = 0;
    }
    if ((size_t)sent < n) keep(c, bytes + sent, n - sent);
}

static void write_rest(conn_t *c) {
    while (c->out_len) {
        ssize_t sent = send(c->fd, c->out + c->out_at, c->out_len, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) drop(c);
            return;
        }
        c->out_at += sent;
        c->out_len -= sent;
    }
    c->out_at = 0;
    listen_for_room(c, 0);
    if (c->doing == STREAMING && !c->plan.pace_us) go_on(c);
}

/* --- the texts, made once; only digits change ------------------------------------------------------------------------ */

#define ID "chatcmpl-0000000000000000"
#define STAMP "~000000000"
#define CHUNK "{\"id\":\"" ID "\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"bench\"," \
              "\"system_fingerprint\":\"fp_bench\",\"choices\":["
#define SSE "data: " CHUNK
#define STREAM_HEAD \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n" \
    "transfer-encoding: chunked\r\n\r\n"

typedef struct {
    char bytes[2048];
    size_t len, id_at, stamp_at;
} text_t;

static text_t reply, first, piece, finish;

static void place_holes(text_t *t) {
    char *id = strstr(t->bytes, "chatcmpl-"), *stamp = strstr(t->bytes, STAMP);
    t->id_at = id ? id + 9 - t->bytes : 0;
    t->stamp_at = stamp ? stamp + 1 - t->bytes : 0;
}

static void make_event(text_t *t, const char *head, const char *event) {
    t->len = snprintf(t->bytes, sizeof t->bytes, "%s%zx\r\n%s\r\n", head, strlen(event), event);
    place_holes(t);
}

static void make_texts(void) {
    static const char body[] =
        "{\"id\":\"" ID "\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"bench\",\"choices\":[{\"index\":0,"
        "\"message\":{\"role\":\"assistant\",\"content\":\"A ferry crosses the bay four times a day, and whoever waits at the "
        "pier long enough learns the names of all its passengers, the colour of their coats, and which of them will miss the last "
        "boat home when the evening is warm.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":48,\"total_tokens\":65},\"system_fingerprint\":\"fp_bench\"}";
    reply.len = snprintf(reply.bytes, sizeof reply.bytes,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", strlen(body), body);
    place_holes(&reply);
    make_event(&first, STREAM_HEAD, SSE "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    make_event(&piece, "", SSE "{\"index\":0,\"delta\":{\"content\":\"" STAMP "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    make_event(&finish, "", SSE "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
}

static void write_hex(char *at, int digits, uint64_t value) {
    for (; digits--; value >>= 4) at[digits] = "0123456789abcdef"[value & 15];
}

static void put_text(conn_t *c, text_t *t) {
    if (t->id_at) write_hex(t->bytes + t->id_at, ID_DIGITS, c->serial);
    if (t->stamp_at) write_hex(t->bytes + t->stamp_at, STAMP_DIGITS, (uint64_t)now_us());
    put(c, t->bytes, t->len);
}

static void put_usage(conn_t *c) {
    char event[512], bytes[640];
    int n = snprintf(event, sizeof event,
        SSE "],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", c->plan.chunks, c->plan.chunks + 17);
    write_hex(strstr(event, "chatcmpl-") + 9, ID_DIGITS, c->serial);
    n = snprintf(bytes, sizeof bytes, "%x\r\n%s\r\n", n, event);
    put(c, bytes, n);
}

/* --- replies -------------------------------------------------------------------------------------------------------- */

static void read_on(conn_t *c);

static void end_reply(conn_t *c) {
    c->doing = READING;
    if (!c->dead) read_on(c);
}

static void end_stream(conn_t *c) {
    static const char done[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    put_text(c, &finish);
    put_usage(c);
    put(c, done, sizeof done - 1);
    if (!c->dead) counts.streams_done++;
    end_reply(c);
}

static void cut(conn_t *c) {
    counts.cut++;
    c->doing = READING; /* not the caller's doing */
    drop(c);
}

/* One piece of content, and what follows from it: the end, the next piece at its time, or at once after the others. */
static void step(conn_t *c) {
    if (c->dead) return;
    if (c->plan.breaks >= 0 && c->sent >= c->plan.breaks) {
        cut(c);
        return;
    }
    if (c->sent == c->plan.chunks) {
        end_stream(c);
        return;
    }
    put_text(c, &piece);
    c->sent++;
    counts.chunks++;
    if (c->dead) return; /* the reader left just then */
    if (c->sent == c->plan.chunks && c->plan.breaks < 0) end_stream(c);
    else if (c->plan.pace_us) c->due += c->plan.pace_us, timer_start(c);
    else if (!c->out_len) go_on(c);
}

static void begin_reply(conn_t *c) {
    if (!c->streamed) {
        put_text(c, &reply);
        counts.replies++;
        end_reply(c);
        return;
    }
    counts.streams++;
    c->doing = STREAMING;
    put_text(c, &first);
    step(c);
}

static void on_due(conn_t *c) {
    if (c->doing == WAITING) begin_reply(c);
    else step(c);
}

/* --- requests ------------------------------------------------------------------------------------------------------- */

static void answer_get(conn_t *c, const char *head) {
    char body[400], bytes[600];
    if (!strncmp(head, "GET /counts", 11))
        snprintf(body, sizeof body,
            "{\"requests\":%llu,\"replies\":%llu,\"streams\":%llu,\"streams_done\":%llu,\"chunks\":%llu,\"cut\":%llu,\"left\":%llu}",
            (unsigned long long)counts.requests, (unsigned long long)counts.replies, (unsigned long long)counts.streams,
            (unsigned long long)counts.streams_done, (unsigned long long)counts.chunks, (unsigned long long)counts.cut,
            (unsigned long long)counts.left);
    else
        snprintf(body, sizeof body, "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1790000000,"
                                    "\"owned_by\":\"bench\"}]}");
    int n = snprintf(bytes, sizeof bytes, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                     strlen(body), body);
    put(c, bytes, n);
}

static int is_streamed(const char *body, size_t n) {
    const char *at = memmem(body, n, "\"stream\"", 8), *end = body + n;
    if (!at) return 0;
    for (at += 8; at < end && (*at == ' ' || *at == ':'); at++) {}
    return end - at >= 4 && !memcmp(at, "true", 4);
}

static plan_t plan_of(const char *body, size_t n) {
    plan_t plan = {20, 0, 0, -1};
    const char *at = memmem(body, n, "[[bench ", 8);
    char text[80] = "";
    if (at) {
        size_t left = body + n - at;
        memcpy(text, at, left < sizeof text - 1 ? left : sizeof text - 1);
        sscanf(text, "[[bench %d %d %d %d]]", &plan.chunks, &plan.pace_us, &plan.first_ms, &plan.breaks);
    }
    return plan;
}

static void refuse(conn_t *c) {
    static const char bytes[] = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: 46\r\n\r\n"
                                "{\"error\":{\"message\":\"broken\",\"type\":\"planned\"}}";
    put(c, bytes, sizeof bytes - 1);
}

static void answer(conn_t *c, const char *head, const char *body, size_t n) {
    if (strncmp(head, "POST", 4)) {
        answer_get(c, head);
        return;
    }
    counts.requests++;
    c->plan = plan_of(body, n);
    c->streamed = is_streamed(body, n);
    c->sent = 0;
    c->serial = ++serial;
    c->due = now_us() + (int64_t)c->plan.first_ms * 1000;
    if (c->plan.breaks == 0) {
        refuse(c);
    } else if (c->plan.first_ms) {
        c->doing = WAITING;
        timer_start(c);
    } else {
        begin_reply(c);
    }
}

/* Bytes a chunked body takes on the wire once it is whole, else 0; it is put together at `to`, which may be the same place. */
static size_t unchunk(char *from, char *end, char *to, size_t *total) {
    *total = 0;
    for (char *at = from;;) {
        char *eol = memmem(at, end - at, "\r\n", 2);
        if (!eol) return 0;
        size_t n = strtoul(at, NULL, 16);
        if ((size_t)(end - eol) < n + 4) return 0;
        if (to) memmove(to + *total, eol + 2, n);
        *total += n;
        at = eol + 2 + n + 2;
        if (!n) return at - from;
    }
}

/* Answer the first request of the buffer if it is whole: bytes it took, else 0. */
static size_t take_request(conn_t *c) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return 0;
    char *body = end + 4, *stop = c->in + c->in_len;
    end[2] = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    int chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked") != NULL;
    int expects = strcasestr(c->in, "\r\nexpect:") != NULL;
    end[2] = '\r';
    size_t n = length ? strtoul(length + 17, NULL, 10) : 0, wire = n;
    if (chunked && !(wire = unchunk(body, stop, NULL, &n))) return 0;
    if ((size_t)(stop - body) < wire) {
        if (expects && stop == body) put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        return 0;
    }
    if (chunked) unchunk(body, stop, body, &n);
    answer(c, c->in, body, n);
    return body + wire - c->in;
}

static void read_on(conn_t *c) {
    while (!c->dead && c->doing == READING && c->in_len) {
        static int within; /* a reply that ends at once calls back here: one loop is enough */
        if (within) return;
        within = 1;
        size_t took = take_request(c);
        within = 0;
        if (!took || c->dead) return;
        memmove(c->in, c->in + took, c->in_len -= took);
    }
}

static void on_readable(conn_t *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 4096) c->in = realloc(c->in, (c->in_cap = c->in_cap * 2 + 8192) + 1);
        size_t room = c->in_cap - c->in_len;
        ssize_t got = recv(c->fd, c->in + c->in_len, room, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (got <= 0 || c->in_len + got > REQUEST_MAX) {
            drop(c);
            return;
        }
        c->in_len += got;
        c->in[c->in_len] = 0;
        if ((size_t)got < room) break;
    }
    read_on(c);
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

static void take_callers(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conn_t *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->heap_at = -1;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static void serve_eager(void) {
    conn_t *c = eager;
    eager = NULL;
    eager_end = &eager;
    while (c) {
        conn_t *next = c->next;
        c->listed = 0;
        if (c->dead) c->next = dead, dead = c;
        else if (!c->out_len) step(c);
        c = next;
    }
}

static void serve_due(void) {
    int64_t now = now_us();
    while (heap_len && heap[0]->due <= now) {
        conn_t *c = heap[0];
        timer_stop(c);
        on_due(c);
    }
}

static int patience(void) {
    if (eager) return 0;
    if (!heap_len) return 1000;
    int64_t left = heap[0]->due - now_us();
    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

static int open_listener(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&at, n) || listen(fd, 8192) || getsockname(fd, (void *)&at, &n)) {
        perror("backend");
        exit(1);
    }
    printf("listening %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

int main(int argc, char **argv) {
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    make_texts();
    serial = (uint64_t)now_us() << 20; /* ids differ between runs */
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = open_listener(argc > 1 ? atoi(argv[1]) : 0);
    struct epoll_event at = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &at);
    while (!stopping) {
        int n = epoll_wait(poller, events, EVENTS, patience());
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (!c) take_callers(listener);
            else if (!c->dead && events[i].events & EPOLLOUT) write_rest(c);
            if (c && !c->dead && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
        serve_eager();
        serve_due();
        bury();
    }
    return 0;
}
