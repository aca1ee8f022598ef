#pragma once
#include <string>

namespace hybrid {

/// "0.1.0"
std::string version();

}  // namespace hybrid
