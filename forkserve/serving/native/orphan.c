/* A fork whose child is inherited by the nearest child subreaper (prctl(2)), by way of a process between that costs nothing.
 *
 * The process between shares the memory of its parent, which the kernel suspends meanwhile (CLONE_VM and CLONE_VFORK, as
 * vfork(2)): so no page tables are copied for it, and none are torn down when it ends. It calls fork() of the C library, so
 * that handlers of pthread_atfork(3) run and locks are whole. In the child the stack of the parent is there as it was, and
 * the child goes back to it. */
#undef _FORTIFY_SOURCE /* its longjmp() refuses to change the stack */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "orphan.h"

#ifdef __linux__
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK ((size_t)1 << 20)

static int
between(void *back)
{
    pid_t pid = fork();
    if (pid == 0)
        longjmp(*(jmp_buf *)back, 1);
    _exit(pid > 0 ? 0 : errno);
}

/* Have the kernel tell this thread its processor again, as the C library believes it does (rseq(2)): it is not inherited
 * from a process that shares memory with another. */
static void
renew_rseq(void)
{
#if defined(SYS_rseq) && defined(__x86_64__)
    char *self;
    const unsigned int signature = 0x53053053;
    __asm__("mov %%fs:0, %0" : "=r"(self));
#elif defined(SYS_rseq) && defined(__aarch64__)
    char *self = __builtin_thread_pointer();
    const unsigned int signature = 0xd428bc00;
#endif
#if defined(SYS_rseq) && (defined(__x86_64__) || defined(__aarch64__))
    const ptrdiff_t *offset = dlsym(RTLD_DEFAULT, "__rseq_offset");
    const unsigned int *size = dlsym(RTLD_DEFAULT, "__rseq_size");
    if (offset != NULL && size != NULL && *size > 0)
        (void)syscall(SYS_rseq, self + *offset, 32, 0, signature);
#endif
}

PyObject *
fork_orphan(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    jmp_buf back;
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyOS_BeforeFork();
    if (setjmp(back) != 0) {
        munmap(stack, STACK);
        renew_rseq();
        PyOS_AfterFork_Child();
        return PyLong_FromLong(0);
    }
    pid_t pid = clone(between, stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &back);
    int error = errno;
    PyOS_AfterFork_Parent();
    munmap(stack, STACK);
    if (pid < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(pid);
}

#else

PyObject *
fork_orphan(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    PyErr_SetString(PyExc_OSError, "only Linux has child subreapers");
    return NULL;
}
#endif
