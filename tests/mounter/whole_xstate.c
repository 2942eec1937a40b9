/* User Mode Linux 6.1 knows processors up to AVX-512.  The kernel of a machine with a larger one (AMX) wants the whole of its
 * registers or nothing (arch/x86/kernel/fpu/regset.c, xstateregs_set: EFAULT), so what is missing is put behind what is given. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

static char whole[1 << 16];

long ptrace(enum __ptrace_request request, ...)
{
    static long (*next)(enum __ptrace_request, ...);
    struct iovec given, all = {whole, sizeof whole};
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (next == NULL)
        next = dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE)
        return next(request, pid, address, data);
    given = *(struct iovec *)data;
    if (next(PTRACE_GETREGSET, pid, address, &all) != 0 || all.iov_len <= given.iov_len)
        return next(request, pid, address, data);
    memcpy(whole, given.iov_base, given.iov_len);
    return next(request, pid, address, &all);
}
