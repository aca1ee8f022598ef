#pragma once
#include <stdlib.h>

#include <string>

namespace hybrid::test {

/// A variable of the environment, here and for the programs that a test runs, while it lives.
struct EnvironmentVariable {
  std::string name, before;
  bool was_set;

  EnvironmentVariable(const std::string& name, const std::string& value)
      : name(name),
        before(getenv(name.c_str()) == nullptr ? "" : getenv(name.c_str())),
        was_set(getenv(name.c_str()) != nullptr) {
    setenv(name.c_str(), value.c_str(), 1);
  }
  ~EnvironmentVariable() {
    was_set ? setenv(name.c_str(), before.c_str(), 1) : unsetenv(name.c_str());
  }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;
};

}  // namespace hybrid::test
