#pragma once
// The one error type, and the checks that throw it.
//
// An Error tells a person, in one line, what was expected, what was found and, where that is known,
// what to do. The library throws; only `main` prints. CHECK is for our own invariants: it fires
// when the program is wrong, never because of a user's file or option.

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace hybrid {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// The command line itself is wrong: `main` exits with 2 instead of 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

namespace internal {
[[noreturn]] void check_failed(const char* expression, const char* file, int line);
[[noreturn]] void throw_error(fmt::string_view format, fmt::format_args args);
[[noreturn]] void throw_usage_error(fmt::string_view format, fmt::format_args args);
}  // namespace internal

/// Throws Error with a message formatted by fmt.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  internal::throw_error(format, fmt::make_format_args(args...));
}

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  internal::throw_usage_error(format, fmt::make_format_args(args...));
}

/// Shortens and escapes a string that came from a file, so that it can stand in a one-line message:
/// control characters, bidirectional overrides and invalid UTF-8 become \xNN, and what is longer
/// than `max_bytes` ends in "...".
std::string printable(std::string_view text, size_t max_bytes = 80);

}  // namespace hybrid

/// Our own invariant. Throws, so that a bug ends one request and not a server.
#define HYBRID_CHECK(expression)                                         \
  do {                                                                   \
    if (!(expression)) [[unlikely]]                                      \
      ::hybrid::internal::check_failed(#expression, __FILE__, __LINE__); \
  } while (false)
