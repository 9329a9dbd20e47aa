/*
 * Writes down what a process does to the files of a folder, for LD_PRELOAD.
 *
 * TRACED_FOLDER is the folder; TRACED_DISK is the file that the records are appended to, each
 * once its call has succeeded. tests/harness/cuts.py reads them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (next == NULL) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

struct record {
    uint64_t inode;
    int64_t at;
    uint32_t path_bytes, data_bytes;
    char call;
} __attribute__((packed));

static int traced(const char *path)
{
    const char *folder = getenv("TRACED_FOLDER");
    return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static void append(char call, uint64_t inode, int64_t at, const char *path, const void *data,
                   size_t size)
{
    int kept = errno;
    NEXT(open);
    int fd = next(getenv("TRACED_DISK"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct record head = {inode, at, (uint32_t)strlen(path), (uint32_t)size, call};
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)path, head.path_bytes}, {(void *)data, size}};
    if (fd < 0 || writev(fd, parts, 3) < 0)
        abort();
    close(fd);
    errno = kept;
}

static void record(char call, int fd, int64_t at, const void *data, ssize_t size)
{
    char link[64], path[PATH_MAX];
    int kept = errno;
    struct stat status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && size >= 0) {
        path[length] = 0;
        if (traced(path) && fstat(fd, &status) == 0)
            append(call, status.st_ino, at, path, data, (size_t)size);
    }
    errno = kept;
}

#define WRITES(name, type) \
    ssize_t name(int fd, const void *data, size_t size, type at) \
    { \
        NEXT(name); \
        ssize_t done = next(fd, data, size, at); \
        record('w', fd, at, data, done); \
        return done; \
    }
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size)
{
    NEXT(write);
    ssize_t done = next(fd, data, size);
    record('w', fd, lseek(fd, 0, SEEK_CUR) - done, data, done);
    return done;
}

#define TRUNCATES(name, type) \
    int name(int fd, type size) \
    { \
        NEXT(name); \
        int failed = next(fd, size); \
        record('t', fd, size, "", failed); \
        return failed; \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define SYNCS(name) \
    int name(int fd) \
    { \
        NEXT(name); \
        int failed = next(fd); \
        record('s', fd, 0, "", failed); \
        return failed; \
    }
SYNCS(fsync)
SYNCS(fdatasync)

int unlink(const char *path)
{
    NEXT(unlink);
    int failed = next(path);
    if (!failed && traced(path))
        append('u', 0, 0, path, "", 0);
    return failed;
}

int rename(const char *path, const char *name)
{
    NEXT(rename);
    int failed = next(path, name);
    if (!failed && traced(path))
        append('r', 0, 0, path, name, strlen(name));
    return failed;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int kept = errno, is_new = flags & O_CREAT && access(path, F_OK) != 0; \
        errno = kept; \
        int fd = next(path, flags, mode); \
        if (fd >= 0 && is_new) \
            record('c', fd, 0, "", 0); \
        return fd; \
    }
OPENS(open)
OPENS(open64)
