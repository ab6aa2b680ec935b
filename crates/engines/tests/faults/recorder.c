/* Preloaded into a process under test: writes down, in order, what it asks of the disk below RECORD_DIR.
 *
 * One record for each call: op (1 byte), length of the name (1), length of the data (4), offset (8), name, data, all
 * little-endian. Ops: C open, W write, T truncate to `offset`, S sync, U unlink (name as data). The lock makes the order of records that of
 * the calls. What SQLite maps (the -shm file) is not durable and not recorded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { FDS = 1024, NAME = 64 };
static char names[FDS][NAME];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static const char *dir;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    dir = getenv("RECORD_DIR");
    const char *to = getenv("RECORD_TO");
    if (dir && to) out = REAL(open)(to, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void all(const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        ssize_t done = REAL(write)(out, at, n);
        if (done <= 0) abort();
        at += done;
        n -= (size_t)done;
    }
}

static void record(char op, int fd, uint64_t offset, const void *data, uint32_t n) {
    unsigned char head[14];
    const char *name = names[fd];
    head[0] = (unsigned char)op;
    head[1] = (unsigned char)strlen(name);
    memcpy(head + 2, &n, 4);
    memcpy(head + 6, &offset, 8);
    all(head, sizeof head);
    all(name, strlen(name));
    if (n > 0) all(data, n);
}

static int known(int fd) { return out >= 0 && fd >= 0 && fd < FDS && names[fd][0]; }

static int opened(int fd, const char *path) {
    if (fd < 0 || fd >= FDS - 1 || !dir || out < 0) return fd;
    pthread_mutex_lock(&lock);
    names[fd][0] = 0;
    size_t n = strlen(dir);
    if (strncmp(path, dir, n) == 0 && path[n] == '/' && strlen(path + n + 1) < NAME) {
        strcpy(names[fd], path + n + 1);
        record('C', fd, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                                   \
    int name(const char *path, int flags, ...) {                     \
        va_list more;                                                \
        va_start(more, flags);                                       \
        mode_t mode = (mode_t)va_arg(more, unsigned);                \
        va_end(more);                                                \
        return opened(REAL(name)(path, flags, mode), path);          \
    }
OPEN(open)
OPEN(open64)

int unlink(const char *path) {
    size_t n = dir ? strlen(dir) : 0;
    if (out < 0 || strncmp(path, dir, n) != 0 || path[n] != '/') return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    int done = REAL(unlink)(path);
    /* No descriptor has the last number: its name stays empty. */
    if (done == 0) record('U', FDS - 1, 0, path + n + 1, (uint32_t)strlen(path + n + 1));
    pthread_mutex_unlock(&lock);
    return done;
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) names[fd][0] = 0;
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *data, size_t n) {
    if (!known(fd)) return REAL(write)(fd, data, n);
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, data, n);
    if (done > 0) record('W', fd, (uint64_t)at, data, (uint32_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset_t)                                                \
    ssize_t name(int fd, const void *data, size_t n, offset_t at) {           \
        if (!known(fd)) return REAL(name)(fd, data, n, at);                   \
        pthread_mutex_lock(&lock);                                            \
        ssize_t done = REAL(name)(fd, data, n, at);                           \
        if (done > 0) record('W', fd, (uint64_t)at, data, (uint32_t)done);    \
        pthread_mutex_unlock(&lock);                                          \
        return done;                                                          \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, offset_t)                                   \
    int name(int fd, offset_t to) {                                \
        if (!known(fd)) return REAL(name)(fd, to);                 \
        pthread_mutex_lock(&lock);                                 \
        int done = REAL(name)(fd, to);                             \
        if (done == 0) record('T', fd, (uint64_t)to, NULL, 0);     \
        pthread_mutex_unlock(&lock);                               \
        return done;                                               \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                          \
    int name(int fd) {                                      \
        if (!known(fd)) return REAL(name)(fd);              \
        pthread_mutex_lock(&lock);                          \
        int done = REAL(name)(fd);                          \
        if (done == 0) record('S', fd, 0, NULL, 0);         \
        pthread_mutex_unlock(&lock);                        \
        return done;                                        \
    }
SYNC(fsync)
SYNC(fdatasync)
