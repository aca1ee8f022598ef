#pragma once

namespace hybrid::test {

/// A build with AddressSanitizer or ThreadSanitizer, which runs whole models several times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

}  // namespace hybrid::test
