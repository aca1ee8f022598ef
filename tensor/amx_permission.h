#pragma once
// Linux gives a process the tile registers of AMX only when it asks for them.

#include <string>

namespace hybrid {

/// Asks for them, once, for all threads of the process. "" where they were granted, else why not.
const std::string& request_amx_permission();

}  // namespace hybrid
