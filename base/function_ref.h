#pragma once
// A reference to something callable: two pointers, nothing allocated, nothing owned. For parameters
// that are called before the function returns; what it refers to must live that long.

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

namespace hybrid {

template <class Signature>
class FunctionRef;

template <class Result, class... Args>
class FunctionRef<Result(Args...)> {
 public:
  /// Implicit, so that a lambda can be passed where a FunctionRef is asked for.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> &&
           std::is_object_v<std::remove_reference_t<F>> &&
           std::is_invocable_r_v<Result, F&, Args...>) FunctionRef(F&& callable)
  noexcept
      : callable_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Args... args) -> Result {
          auto& f = *static_cast<std::remove_reference_t<F>*>(object);
          return static_cast<Result>(std::invoke(f, std::forward<Args>(args)...));
        }) {}

  Result operator()(Args... args) const { return call_(callable_, std::forward<Args>(args)...); }

 private:
  void* callable_;
  Result (*call_)(void*, Args...);
};

}  // namespace hybrid
