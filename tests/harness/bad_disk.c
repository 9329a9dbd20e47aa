/*
 * A disk that fails on command, for LD_PRELOAD.
 *
 * As long as the file that BAD_DISK names is there, the call that it says fails with the error
 * that it says, on files with that ending: "fsync 5 -wal" or "pwrite 28 .queuedb".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, int fd)
{
    const char *orders = getenv("BAD_DISK");
    char wanted[16], ending[64], link[64], path[PATH_MAX];
    int error = 0, kept = errno;
    FILE *file = orders ? fopen(orders, "r") : NULL;
    if (file == NULL) {
        errno = kept;
        return 0;
    }
    int read = fscanf(file, "%15s %d %63s", wanted, &error, ending);
    fclose(file);
    errno = kept;
    if (read != 3 || strcmp(wanted, call) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t end = strlen(ending);
    if (length < (ssize_t)end || memcmp(path + length - end, ending, end) != 0)
        return 0;
    errno = error;
    return 1;
}

int fsync(int fd)
{
    static int (*next)(int);
    if (fails("fsync", fd))
        return -1;
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "fsync");
    return next(fd);
}

int fdatasync(int fd)
{
    static int (*next)(int);
    if (fails("fsync", fd))
        return -1;
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "fdatasync");
    return next(fd);
}

int flock(int fd, int operation)
{
    static int (*next)(int, int);
    if (fails("flock", fd))
        return -1;
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "flock");
    return next(fd, operation);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (fails("pwrite", fd))
        return -1;
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "pwrite64");
    return next(fd, data, size, at);
}
