/* Debian's Lua raises errors with the fortified longjmp, which ThreadSanitizer does not intercept. The C functions
 * that an error leaves would stay on ThreadSanitizer's shadow stack, and each error would make the program slower. */
#ifndef FLUME_TEST_LONGJMP_H
#define FLUME_TEST_LONGJMP_H

#ifdef __SANITIZE_THREAD__
#include <setjmp.h>

__attribute__((visibility("default"))) _Noreturn void __longjmp_chk(jmp_buf env, int value);
_Noreturn void __longjmp_chk(jmp_buf env, int value) {
  longjmp(env, value);
}
#endif

#endif
