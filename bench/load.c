/* A load generator for one HTTP/1.1 address: calls or streams over kept connections, counted and timed. One thread, epoll.
 *
 *     cc -O2 -o load load.c
 *     ./load -u http://127.0.0.1:8080/v1/chat/completions -b BODY_FILE -c 64 -w 1 -t 4
 *
 * -u ADDRESS   http://IPV4:PORT/path                    -b FILE     body of every request (JSON)
 * -H HEADER    a header of every request, repeatable    -K FILE     one header a line; each call uses the next line
 * -c N         connections                              -r RATE     calls a second, due by the clock whatever became of
 * -w SECONDS   warm-up before the window                            the others; without it each connection calls again
 * -t SECONDS   the window in which is counted                       as soon as it was answered
 * -n CALLS     end after so many calls instead          -R SECONDS  connections begin spread over this time
 * -e CHUNKS    every reply is a stream of so many       -g SECONDS  time for running calls after the window (else cut)
 *
 * It says "begin" and "end" on standard output when the window does, then one line of JSON. A call is good when its status
 * is 200 and its reply came whole: by its framing, with [DONE] and all its chunks where -e says it is a stream. All others are
 * refused (another status), short (a stream without its end or some of its chunks) or broken (no connection, cut, not HTTP):
 * these are counted from the first moment to the last. A chunk is a "~" with nine hexadecimal digits (see backend.c); its
 * delay is the time since. With -r latency counts from when a call was due, not from when a connection was free for it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, READ_BYTES = 65536, HEAD_MAX = 8192, TAIL = 32, SAMPLE = 240, STAMP_DIGITS = 9, RETRY_US = 20000 };

/* --- options ---------------------------------------------------------------------------------------------------------- */

static struct {
    struct sockaddr_in at;
    char host[80], path[512];
    char *body, *headers;
    size_t body_len;
    double rate, warm_s, window_s, ramp_s, grace_s;
    int connections, chunks;
    int64_t calls;
} opt = {.connections = 1, .warm_s = 0, .window_s = 1, .chunks = -1};

typedef struct {
    char *bytes;
    size_t len;
} text_t;

static text_t *requests; /* one for each line of -K; else one */
static int requests_n;

static void die(const char *why) {
    fprintf(stderr, "load: %s\n", why);
    exit(2);
}

static char *read_file(const char *name, size_t *n) {
    FILE *f = fopen(name, "rb");
    if (!f) die(name);
    char *bytes = NULL;
    size_t got, len = 0;
    do {
        bytes = realloc(bytes, len + 65537);
        len += got = fread(bytes + len, 1, 65536, f);
    } while (got);
    fclose(f);
    bytes[len] = 0;
    *n = len;
    return bytes;
}

static void set_address(const char *url) {
    char host[64];
    int port = 80;
    if (sscanf(url, "http://%63[0-9.]:%d%511s", host, &port, opt.path) != 3) die("the address must be http://IPV4:PORT/path");
    opt.at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &opt.at.sin_addr) != 1) die("not an IPv4 address");
    snprintf(opt.host, sizeof opt.host, "%s:%d", host, port);
}

static void add_header(const char *line) {
    char *all;
    if (asprintf(&all, "%s%s\r\n", opt.headers ? opt.headers : "", line) < 0) die("no memory");
    opt.headers = all;
}

static text_t make_request(const char *extra) {
    text_t t;
    int head = asprintf(&t.bytes,
        "POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: load\r\n%s%s%s"
        "content-length: %zu\r\n\r\n",
        opt.path, opt.host, opt.headers ? opt.headers : "", extra, *extra ? "\r\n" : "", opt.body_len);
    if (head < 0) die("no memory");
    t.bytes = realloc(t.bytes, head + opt.body_len);
    memcpy(t.bytes + head, opt.body, opt.body_len);
    t.len = head + opt.body_len;
    return t;
}

static void make_requests(char *lines) {
    char *rest = lines, *line;
    while (rest && (line = strsep(&rest, "\n"))) {
        if (!*line) continue;
        requests = realloc(requests, (requests_n + 1) * sizeof *requests);
        requests[requests_n++] = make_request(line);
    }
    if (!requests_n) {
        requests = malloc(sizeof *requests);
        requests[requests_n++] = make_request("");
    }
}

static void read_options(int argc, char **argv) {
    char *lines = NULL;
    size_t n;
    for (int o; (o = getopt(argc, argv, "u:b:H:K:c:r:w:t:n:R:e:g:")) != -1;) switch (o) {
        case 'u': set_address(optarg); break;
        case 'b': opt.body = read_file(optarg, &opt.body_len); break;
        case 'H': add_header(optarg); break;
        case 'K': lines = read_file(optarg, &n); break;
        case 'c': opt.connections = atoi(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 'w': opt.warm_s = atof(optarg); break;
        case 't': opt.window_s = atof(optarg); break;
        case 'n': opt.calls = atoll(optarg); break;
        case 'R': opt.ramp_s = atof(optarg); break;
        case 'e': opt.chunks = atoi(optarg); break;
        case 'g': opt.grace_s = atof(optarg); break;
        default: die("read the first lines of load.c");
    }
    if (!opt.at.sin_port || !opt.body || opt.connections < 1) die("-u, -b and -c are needed");
    make_requests(lines);
}

/* --- time and what is counted ------------------------------------------------------------------------------------------ */

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Microseconds in buckets that are one part in 64 wide. */
enum { FINE = 64, BUCKETS = FINE * 30 };
typedef struct {
    uint64_t n, sum, max, count[BUCKETS];
} times_t;

static int bucket_of(uint64_t v) {
    int shift = 0;
    for (; v >> shift >= 2 * FINE; shift++) {}
    int b = v < FINE ? (int)v : shift * FINE + (int)(v >> shift);
    return b < BUCKETS ? b : BUCKETS - 1;
}

static double middle_of(int b) {
    int shift = b / FINE - 1;
    if (shift < 1) return b;
    return ((double)(b - shift * FINE) + 0.5) * (double)(1ull << shift);
}

static void note(times_t *t, int64_t us) {
    uint64_t v = us > 0 ? us : 0;
    t->n++;
    t->sum += v;
    if (v > t->max) t->max = v;
    t->count[bucket_of(v)]++;
}

static double quantile(const times_t *t, double q) {
    uint64_t wanted = (uint64_t)(q * (double)t->n), seen = 0;
    for (int b = 0; b < BUCKETS; b++)
        if ((seen += t->count[b]) > wanted) return middle_of(b) < (double)t->max ? middle_of(b) : (double)t->max;
    return (double)t->max;
}

static times_t latency, first_chunk, delay;
static uint64_t calls, all_calls, chunks, bytes, refused, broken, shortened;
static int active, most_active;
static char sample[SAMPLE * 2];
static int64_t began, opens, closes; /* microseconds: the run's begin, the window */

static int counts_at(int64_t now) { return now >= opens && now < closes; }

/* --- connections -------------------------------------------------------------------------------------------------------- */

typedef enum { CLOSED, IDLE, HEAD, SIZED, TO_THE_END, SIZE_LINE, CHUNK, CHUNK_END, TRAILER } state_t;

typedef struct conn {
    int fd, nth, status, keeps; /* nth: of its sockets */
    state_t state;
    text_t *request;
    size_t unsent_at;
    int64_t due, retry_at;
    uint64_t left;             /* of the body, or of the chunk of its framing */
    int head_len, line_len, tail_len;
    char head[HEAD_MAX], line[32], tail[TAIL];
    int seen;                  /* stamped chunks so far */
    int stamp_digits;          /* -1: outside a stamp */
    uint64_t stamp;
    struct conn *next;         /* idle list */
} conn_t;

static int poller, next_request, ending, failed;
static conn_t *conns, *idle;
static int64_t started_calls;

static void ask(conn_t *c, int64_t due);

static void take_sample(conn_t *c, const char *why, const char *more, int n) {
    int at = 0;
    if (*sample) return;
    at = snprintf(sample, sizeof sample, "%s %d: ", why, c->status);
    for (int i = 0; i < n && at < SAMPLE; i++)
        if (isprint((unsigned char)more[i]) && more[i] != '"' && more[i] != '\\') sample[at++] = more[i];
    sample[at] = 0;
}

static void disconnect(conn_t *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static int connect_to(conn_t *c) {
    int one = 1;
    c->nth++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return -1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&opt.at, sizeof opt.at) && errno != EINPROGRESS) return -1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    return epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

/* --- the end of a call ---------------------------------------------------------------------------------------------------- */

static int64_t *waiting; /* with -r: instants at which calls were due that found no connection */
static size_t waiting_at, waiting_n, waiting_cap;

static void wait_for_one(int64_t due) {
    if (waiting_at + waiting_n == waiting_cap) {
        memmove(waiting, waiting + waiting_at, waiting_n * sizeof *waiting);
        waiting_at = 0;
        if (waiting_n * 2 >= waiting_cap) waiting = realloc(waiting, (waiting_cap = waiting_cap * 2 + 1024) * sizeof *waiting);
    }
    waiting[waiting_at + waiting_n++] = due;
}

static void go_idle(conn_t *c) {
    c->state = c->fd >= 0 ? IDLE : CLOSED;
    c->next = idle;
    idle = c;
}

/* The connection is free: with -r for whoever waits, else for its own next call. */
static void again(conn_t *c, int64_t now) {
    int over = ending || (opt.calls && started_calls >= opt.calls);
    c->state = c->fd >= 0 ? IDLE : CLOSED;
    if (opt.rate > 0) {
        if (waiting_n && !over) {
            waiting_n--;
            ask(c, waiting[waiting_at++]);
        } else {
            go_idle(c);
        }
    } else if (!over) {
        ask(c, now);
    }
}

static void left_active(conn_t *c) {
    if (c->state > IDLE) active--;
}

static void fail(conn_t *c, const char *why) {
    take_sample(c, why, c->head, c->head_len < 100 ? c->head_len : 100);
    broken++;
    left_active(c);
    disconnect(c);
    c->state = CLOSED;
    c->retry_at = now_us() + RETRY_US; /* a peer that is gone is not asked without pause */
    failed++;
}

static int is_whole(conn_t *c) {
    if (opt.chunks < 0) {
        for (int i = c->tail_len; i--;)
            if (!isspace((unsigned char)c->tail[i])) return c->tail[i] == '}';
        return 0;
    }
    return c->seen == opt.chunks && memmem(c->tail, c->tail_len, "[DONE]", 6);
}

static void finish(conn_t *c, int64_t now) {
    left_active(c);
    if (c->status != 200) {
        refused++;
        take_sample(c, "status", c->tail, c->tail_len);
    } else if (!is_whole(c)) {
        shortened++;
        take_sample(c, "short", c->tail, c->tail_len);
    } else {
        all_calls++;
        if (counts_at(now)) calls++, note(&latency, now - c->due);
    }
    if (!c->keeps) disconnect(c);
    again(c, now);
}

/* --- reading -------------------------------------------------------------------------------------------------------------- */

static void on_stamp(conn_t *c, int64_t now) {
    if (!c->seen++ && counts_at(now)) note(&first_chunk, now - c->due);
    if (!counts_at(now)) return;
    chunks++;
    note(&delay, (int64_t)(((uint64_t)now - c->stamp) & ((1ull << 36) - 1)));
}

static int hex_of(char b) {
    return b >= '0' && b <= '9' ? b - '0' : b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static void keep_tail(conn_t *c, const char *at, size_t n) {
    if (n >= TAIL) {
        memcpy(c->tail, at + n - TAIL, c->tail_len = TAIL);
        return;
    }
    int kept = c->tail_len + (int)n > TAIL ? TAIL - (int)n : c->tail_len;
    memmove(c->tail, c->tail + c->tail_len - kept, kept);
    memcpy(c->tail + kept, at, n);
    c->tail_len = kept + (int)n;
}

static void on_content(conn_t *c, const char *at, size_t n, int64_t now) {
    const char *end = at + n;
    keep_tail(c, at, n);
    while (at < end) {
        if (c->stamp_digits < 0) {
            if (!(at = memchr(at, '~', end - at))) return;
            at++;
            c->stamp = c->stamp_digits = 0;
        }
        for (int digit; at < end && c->stamp_digits < STAMP_DIGITS; at++, c->stamp_digits++) {
            if ((digit = hex_of(*at)) < 0) {
                c->stamp_digits = -1;
                break;
            }
            c->stamp = c->stamp << 4 | (unsigned)digit;
        }
        if (c->stamp_digits == STAMP_DIGITS) on_stamp(c, now), c->stamp_digits = -1;
    }
}

/* The head has come whole: what it says about the body. 0: it is not HTTP. */
static int read_head(conn_t *c) {
    char *length;
    c->head[c->head_len] = 0;
    if (sscanf(c->head, "HTTP/1.%*d %d", &c->status) != 1) return 0;
    c->keeps = !strcasestr(c->head, "\r\nconnection: close");
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) {
        c->state = SIZE_LINE;
        c->line_len = 0;
    } else if ((length = strcasestr(c->head, "\r\ncontent-length:"))) {
        c->left = strtoull(length + 17, NULL, 10);
        c->state = SIZED;
    } else {
        c->state = TO_THE_END;
        c->keeps = 0;
    }
    return 1;
}

/* Take bytes of the head: how many belonged to it; -1: this is no HTTP. */
static int take_head(conn_t *c, const char *at, int n) {
    int had = c->head_len, room = HEAD_MAX - 1 - had, taken = n < room ? n : room;
    memcpy(c->head + had, at, taken);
    int from = had > 3 ? had - 3 : 0;
    char *end = memmem(c->head + from, had + taken - from, "\r\n\r\n", 4);
    c->head_len = had + taken;
    if (!end) return taken < n || !room ? -1 : taken;
    c->head_len = end + 4 - c->head;
    if (!read_head(c)) return -1;
    if (c->status == 100) c->state = HEAD, taken = c->head_len, c->head_len = 0;
    else taken = c->head_len;
    return taken - had;
}

static int take_line(conn_t *c, const char *at, int n) {
    const char *eol = memchr(at, '\n', n);
    int taken = eol ? eol + 1 - at : n;
    int copied = c->line_len + taken < (int)sizeof c->line ? taken : (int)sizeof c->line - 1 - c->line_len;
    memcpy(c->line + c->line_len, at, copied);
    c->line_len += copied;
    if (!eol) return taken;
    c->line[c->line_len] = 0;
    if (c->state == SIZE_LINE) {
        if (hex_of((char)tolower((unsigned char)c->line[0])) < 0) return -1;
        c->left = strtoull(c->line, NULL, 16);
        c->state = c->left ? CHUNK : TRAILER;
    } else if (c->state == CHUNK_END) {
        if (c->line_len > 2) return -1;
        c->state = SIZE_LINE;
    } else if (c->line_len <= 2) {
        c->left = 0;
        c->state = SIZED; /* an empty line after the last chunk: all is there */
    }
    c->line_len = 0;
    return taken;
}

/* Take bytes of a reply. 1: it is whole; 0: more is to come; -1: this is no HTTP. */
static int take(conn_t *c, const char *at, int n, int64_t now) {
    for (int taken; ; at += taken, n -= taken) {
        if (c->state == SIZED && !c->left) return 1;
        if (!n) return 0;
        switch (c->state) {
        case HEAD: taken = take_head(c, at, n); break;
        case SIZE_LINE: case CHUNK_END: case TRAILER: taken = take_line(c, at, n); break;
        case SIZED: case CHUNK:
            taken = (uint64_t)n < c->left ? n : (int)c->left;
            on_content(c, at, taken, now);
            c->left -= taken;
            if (c->state == CHUNK && !c->left) c->state = CHUNK_END;
            break;
        case TO_THE_END: on_content(c, at, taken = n, now); break;
        default: return -1;
        }
        if (taken < 0) return -1;
    }
}

static void on_closed(conn_t *c) {
    if (c->state == TO_THE_END) {
        disconnect(c);
        finish(c, now_us());
    } else if (c->state == IDLE) {
        disconnect(c); /* kept for a while, then let go: that is its right */
        c->state = CLOSED;
        if (opt.rate <= 0) again(c, now_us());
    } else if (c->state != CLOSED) {
        fail(c, "cut");
    }
}

static void on_readable(conn_t *c, int ends) { /* ends: the peer has said its last */
    static char buffer[READ_BYTES];
    for (int socket_nth = c->nth; c->nth == socket_nth && c->fd >= 0;) { /* a call that ends may open another */
        ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) {
            on_closed(c);
            return;
        }
        int64_t now = now_us();
        if (counts_at(now)) bytes += got;
        int rc = c->state == IDLE ? -1 : take(c, buffer, (int)got, now);
        if (rc < 0) fail(c, "not HTTP");
        else if (rc > 0) finish(c, now);
        if (got < (ssize_t)sizeof buffer && !ends) return; /* what comes later raises an edge of its own */
    }
}

/* --- asking ----------------------------------------------------------------------------------------------------------------- */

static void write_on(conn_t *c) {
    while (c->request && c->unsent_at < c->request->len) {
        ssize_t sent = send(c->fd, c->request->bytes + c->unsent_at, c->request->len - c->unsent_at, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ENOTCONN) fail(c, "write");
            return;
        }
        c->unsent_at += sent;
    }
}

static void ask(conn_t *c, int64_t due) {
    c->due = due;
    c->request = &requests[next_request];
    next_request = (next_request + 1) % requests_n;
    c->unsent_at = 0;
    c->head_len = c->tail_len = c->line_len = c->seen = c->status = 0;
    c->stamp_digits = -1;
    c->state = HEAD;
    started_calls++;
    if (++active > most_active) most_active = active;
    if (c->fd < 0 && connect_to(c)) {
        fail(c, "connect");
        return;
    }
    write_on(c);
}

static void retry(int64_t now) { /* connections that failed a while ago */
    for (int i = 0; failed && i < opt.connections; i++) {
        conn_t *c = &conns[i];
        if (c->state != CLOSED || !c->retry_at || c->retry_at > now) continue;
        c->retry_at = 0;
        failed--;
        again(c, now);
    }
}

/* --- the clock: begins of connections, calls that are due, the window ---------------------------------------------------------- */

static int begun;           /* connections that have begun */
static int64_t due_calls;   /* with -r: calls that were due so far */

static int64_t begin_of(int i) { return began + (int64_t)(opt.ramp_s * 1e6 * i / opt.connections); }
static int64_t due_of(int64_t i) { return began + (int64_t)(1e6 * (double)i / opt.rate); }

static void begin_connections(int64_t now) {
    for (; begun < opt.connections && begin_of(begun) <= now; begun++) {
        if (opt.rate > 0) go_idle(&conns[begun]);
        else again(&conns[begun], now);
    }
}

static void begin_due_calls(int64_t now) {
    for (; opt.rate > 0 && !ending && due_of(due_calls) <= now; due_calls++) {
        if (opt.calls && due_calls >= opt.calls) return;
        conn_t *c = idle;
        if (!c) {
            wait_for_one(due_of(due_calls));
            continue;
        }
        idle = c->next;
        ask(c, due_of(due_calls));
    }
}

static void say(const char *word) {
    printf("%s\n", word);
    fflush(stdout);
}

static int is_over(int64_t now) {
    int64_t failed = (int64_t)(refused + broken + shortened);
    if (opt.calls) return (int64_t)all_calls + failed >= opt.calls;
    return ending && (!active || now >= closes + (int64_t)(opt.grace_s * 1e6));
}

static void watch_window(int64_t now) {
    static int said;
    if (!said && now >= opens) said = 1, say("begin");
    if (!ending && now >= closes) ending = 1, say("end");
}

static void show_times(const char *name, const times_t *t) {
    printf(",\"%s_us\":{\"n\":%llu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%llu}", name,
           (unsigned long long)t->n, t->n ? (double)t->sum / (double)t->n : 0, quantile(t, 0.5), quantile(t, 0.9),
           quantile(t, 0.99), (unsigned long long)t->max);
}

static void show(int64_t now) {
    double seconds = (double)((opt.calls || now < closes ? now : closes) - opens) / 1e6;
    printf("{\"seconds\":%.6f,\"calls\":%llu,\"all_calls\":%llu,\"chunks\":%llu,\"bytes\":%llu,\"refused\":%llu,\"broken\":%llu,"
           "\"short\":%llu,\"unfinished\":%d,\"most_active\":%d,\"late\":%zu,\"sample\":\"%s\"",
           seconds, (unsigned long long)calls, (unsigned long long)all_calls, (unsigned long long)chunks,
           (unsigned long long)bytes, (unsigned long long)refused, (unsigned long long)broken, (unsigned long long)shortened,
           active, most_active, waiting_n, sample);
    show_times("latency", &latency);
    show_times("first", &first_chunk);
    show_times("delay", &delay);
    printf("}\n");
}

static int start_clock(void) { /* a tick every millisecond, or as often as calls are due */
    int64_t every = opt.rate > 0 && opt.rate <= 2000 ? (int64_t)(1e9 / opt.rate) : 1000000;
    struct itimerspec at = {.it_interval = {every / 1000000000, every % 1000000000}, .it_value = {0, 1}};
    prctl(PR_SET_TIMERSLACK, 1);
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timerfd_settime(fd, 0, &at, NULL);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

static void make_connections(void) {
    struct rlimit files = {(rlim_t)opt.connections + 64, (rlim_t)opt.connections + 64}, now;
    getrlimit(RLIMIT_NOFILE, &now);
    files.rlim_max = now.rlim_max;
    if (now.rlim_cur < files.rlim_cur && setrlimit(RLIMIT_NOFILE, &files)) die("not enough open files are allowed");
    if (!(conns = calloc(opt.connections, sizeof *conns))) die("no memory");
    for (int i = 0; i < opt.connections; i++) conns[i].fd = -1;
}

int main(int argc, char **argv) {
    struct epoll_event events[EVENTS];
    uint64_t ticks;
    read_options(argc, argv);
    make_connections();
    poller = epoll_create1(EPOLL_CLOEXEC);
    began = now_us();
    int clock = start_clock();
    opens = began + (int64_t)(opt.warm_s * 1e6);
    closes = opt.calls ? INT64_MAX : opens + (int64_t)(opt.window_s * 1e6);
    for (int64_t now = began; !is_over(now); now = now_us()) {
        watch_window(now);
        begin_connections(now);
        begin_due_calls(now);
        retry(now);
        int n = epoll_wait(poller, events, EVENTS, 1000);
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (!c) {
                if (read(clock, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("clock");
                continue;
            }
            if (c->fd >= 0 && events[i].events & EPOLLOUT && c->state > IDLE) write_on(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                on_readable(c, events[i].events & EPOLLRDHUP);
        }
    }
    if (opt.calls) say("end");
    show(now_us());
    return 0;
}
