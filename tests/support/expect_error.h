#pragma once
// What a call throws, for tests on messages.

#include <string>
#include <utility>

#include "base/error.h"

namespace hybrid::test {

/// The message of the Error that `call` throws; "" where it throws none. Other exceptions pass.
template <class Call>
std::string error_of(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace hybrid::test
