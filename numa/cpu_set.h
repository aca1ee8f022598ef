#pragma once
// Which processors this process may use, as restricted by cpusets, numactl or taskset.

namespace hybrid {

/// Physical cores among the processors we are allowed (SMT siblings counted once); at least 1.
int n_allowed_cores();

}  // namespace hybrid
