#include "base/function_ref.h"

#include <doctest/doctest.h>

#include <string>

using namespace hybrid;

namespace {
int twice(FunctionRef<int(int)> f) { return f(1) + f(2); }
}  // namespace

TEST_CASE("a FunctionRef calls what it refers to, not a copy") {
  int n_calls = 0;
  auto counting = [&n_calls, own = 0](int x) mutable {
    ++n_calls;
    return own += x;
  };
  CHECK(twice(counting) == 1 + 3);
  CHECK(counting(0) == 3);
  CHECK(n_calls == 3);
}

TEST_CASE("a FunctionRef takes temporaries, constants and itself, and passes references") {
  CHECK(twice([](int x) { return 10 * x; }) == 30);
  const auto constant = [](int x) { return x; };
  const FunctionRef<int(int)> ref = constant;
  CHECK(twice(ref) == 3);
  std::string text;
  const auto append = [](std::string& s) { s += "x"; };
  const FunctionRef<void(std::string&)> append_ref = append;
  append_ref(text);
  CHECK(text == "x");
}

TEST_CASE("a FunctionRef without a result drops the one there is") {
  int last = 0;
  const auto store = [&](int x) { return last = x; };
  const FunctionRef<void(int)> store_ref = store;
  store_ref(7);
  CHECK(last == 7);
}
