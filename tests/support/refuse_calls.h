#pragma once
// Has the kernel refuse system calls to a thread, as the rules of containers do.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstddef>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <thread>
#include <vector>

namespace hybrid::test {

/// From here on these system calls of this thread, and of threads that it starts, fail with EPERM.
inline void refuse_calls(std::initializer_list<long> calls) {
  std::vector<sock_filter> rules{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const long call : calls) {
    rules.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    rules.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  rules.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(rules.size()), rules.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::runtime_error("seccomp is not there");
  }
}

/// Calls body on a thread of its own to which these calls are refused.
template <class Body>
void with_refused_calls(std::initializer_list<long> calls, const Body& body) {
  std::exception_ptr error;
  std::thread thread([&] {
    try {
      refuse_calls(calls);
      body();
    } catch (...) {
      error = std::current_exception();
    }
  });
  thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace hybrid::test
