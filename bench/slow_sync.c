/* A disk whose syncs take SLOW_SYNC_US microseconds: preloaded, it waits in place of fsync and fdatasync. */
#include <stdlib.h>
#include <unistd.h>

static int wait(void) {
    const char *us = getenv("SLOW_SYNC_US");
    return us ? usleep((useconds_t)atoi(us)) : 0;
}

int fsync(int descriptor) { (void)descriptor; return wait(); }
int fdatasync(int descriptor) { (void)descriptor; return wait(); }
