#pragma once
#include <stdlib.h>

#include <optional>
#include <string>

#include "tests/support/temp_dir.h"

namespace hybrid::test {

/// A variable of the environment, here and for the programs that a test runs, while it lives; unset
/// without a value.
class EnvironmentVariable {
 public:
  EnvironmentVariable(const std::string& name, const std::optional<std::string>& value)
      : name_(name) {
    if (const char* before = getenv(name.c_str())) before_ = before;
    set(value);
  }
  ~EnvironmentVariable() { set(before_); }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;

 private:
  void set(const std::optional<std::string>& value) const {
    value ? setenv(name_.c_str(), value->c_str(), 1) : unsetenv(name_.c_str());
  }

  std::string name_;
  std::optional<std::string> before_;
};

/// An empty cache of the user, gone with it.
struct CacheFolder {
  TempDir dir;
  EnvironmentVariable variable{"XDG_CACHE_HOME", dir.path().string()};
};

}  // namespace hybrid::test
