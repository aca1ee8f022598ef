#include "runtime/version.h"

namespace hybrid {

std::string version() { return HYBRID_VERSION; }

}  // namespace hybrid
