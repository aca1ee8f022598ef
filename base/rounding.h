#pragma once
// Whole parts of numbers.

#include <concepts>
#include <type_traits>

namespace hybrid {

/// n / d, rounded up; n + d - 1 must fit the type.
template <std::unsigned_integral T>
constexpr T divide_up(T n, std::type_identity_t<T> d) {
  return (n + d - 1) / d;
}

/// n, or the next multiple above it; as above.
template <std::unsigned_integral T>
constexpr T round_up(T n, std::type_identity_t<T> multiple) {
  return divide_up(n, multiple) * multiple;
}

}  // namespace hybrid
