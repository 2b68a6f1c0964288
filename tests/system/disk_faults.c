/* Preloaded into a process: lets system calls on the files whose path begins with $DISK_FAULTS_ON
 * fail as a full or broken disk does. What fails is said by the file $DISK_FAULTS, which is mapped, so
 * that the test can change it at any time: see tests/system/faults.py for its fields. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RESIZE = 4 };

struct control {
    int64_t calls; /* how many calls of those kinds there were */
    int64_t first; /* the first of them to fail, from 1; 0 is none */
    int64_t last;  /* the last of them to fail */
    int64_t failed;
    int32_t kinds;
    int32_t error;
};

static struct control *control;
static const char *prefix;

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("DISK_FAULTS");
    prefix = getenv("DISK_FAULTS_ON");
    if (path == NULL || prefix == NULL)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        control = found;
}

/* 0: the call goes through. 1: it is the first to fail. 2: a later one. */
static int fails(int fd, int kind)
{
    char link[64], path[PATH_MAX];
    if (control == NULL || !(control->kinds & kind))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, prefix, strlen(prefix)) != 0)
        return 0;
    int64_t number = __atomic_add_fetch(&control->calls, 1, __ATOMIC_SEQ_CST);
    if (control->first == 0 || number < control->first || number > control->last)
        return 0;
    if (getenv("DISK_FAULTS_VERBOSE"))
        fprintf(stderr, "disk_faults: call %ld kind %d on %s\n", (long)number, kind, path);
    errno = control->error;
    return __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST) == 1 ? 1 : 2;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A disk that fills up takes a part of the write first. */
static size_t taken(int outcome, size_t size)
{
    return outcome == 1 && control->error == ENOSPC ? size / 2 : 0;
}

ssize_t write(int fd, const void *data, size_t size)
{
    int outcome = fails(fd, WRITE), error = errno;
    size_t some = outcome ? taken(outcome, size) : size;
    if (outcome && some == 0) {
        errno = error;
        return -1;
    }
    return REAL(write)(fd, data, some);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place)
{
    int outcome = fails(fd, WRITE), error = errno;
    size_t some = outcome ? taken(outcome, size) : size;
    if (outcome && some == 0) {
        errno = error;
        return -1;
    }
    return REAL(pwrite)(fd, data, some, place);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place)
{
    return pwrite(fd, data, size, place);
}

int fsync(int fd)
{
    return fails(fd, SYNC) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fails(fd, SYNC) ? -1 : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t length)
{
    return fails(fd, RESIZE) ? -1 : REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return ftruncate(fd, length);
}

int fallocate(int fd, int mode, off_t place, off_t length)
{
    return fails(fd, RESIZE) ? -1 : REAL(fallocate)(fd, mode, place, length);
}
