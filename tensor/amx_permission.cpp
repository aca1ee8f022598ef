#include "tensor/amx_permission.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace hybrid {
namespace {

std::string ask_kernel() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, Linux 5.16
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return {};
  return std::string("the kernel's permission to use tiles (arch_prctl: ") + std::strerror(errno) +
         ")";
#else
  return "Linux on x86-64";
#endif
}

}  // namespace

const std::string& request_amx_permission() {
  static const std::string refusal = ask_kernel();
  return refusal;
}

}  // namespace hybrid
