/* Debian's Lua raises errors by the fortified longjmp, of which ThreadSanitizer knows nothing: the calls that an error
 * leaves would stay on its own stack for ever, and everything become slower with each error. */
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
