/* A disk whose cache is lost at a failed sync, as Linux does it: fsync and fdatasync fail while FAIL_SYNC_FILE
 * exists, and what was written to that file since its last sync that worked is overwritten with zeros. Only
 * files whose path has "/spool/" in it are touched. FAIL_SYNC_TALLY grows by a byte with every failure. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES 4096
#define RANGES 4096

struct range { off_t begin; size_t length; };
struct file { int known, ours; size_t count; struct range dirty[RANGES]; };

static struct file *files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_ours(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/spool/") != NULL;
}

static struct file *file_of(int fd) {
    if (fd < 0 || fd >= FILES || !is_ours(fd)) return NULL;
    if (!files[fd]) files[fd] = calloc(1, sizeof(struct file));
    return files[fd];
}

static void note(int fd, off_t begin, size_t length) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) {
        if (file->count < RANGES) file->dirty[file->count++] = (struct range){begin, length};
    }
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t begin) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    ssize_t written = real(fd, data, length, begin);
    if (written > 0) note(fd, begin, written);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t begin) {
    return pwrite64(fd, data, length, begin);
}

static int lose(int fd) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    static const char zeros[65536];
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    struct file *file = files[fd];
    for (size_t i = 0; i < file->count; i++) {
        struct range range = file->dirty[i];
        while (range.length) {
            size_t step = range.length < sizeof zeros ? range.length : sizeof zeros;
            if (real(fd, zeros, step, range.begin) <= 0) break;
            range.begin += step;
            range.length -= step;
        }
    }
    file->count = 0;
    const char *tally = getenv("FAIL_SYNC_TALLY");
    int out = tally ? open(tally, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (out >= 0) {
        if (write(out, ".", 1) < 0) { }
        close(out);
    }
    errno = EIO;
    return -1;
}

static int sync_with(int fd, const char *name) {
    const char *flag = getenv("FAIL_SYNC_FILE");
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    int result;
    if (file && flag && access(flag, F_OK) == 0) {
        result = lose(fd);
    } else {
        result = real(fd);
        if (file && result == 0) file->count = 0;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_with(fd, "fsync"); }
int fdatasync(int fd) { return sync_with(fd, "fdatasync"); }
