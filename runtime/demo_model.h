#pragma once
#include <filesystem>

namespace hybrid {

/// The model that ships with the project: beside an installed program (../share/hybrid-run), where
/// it was installed to, or in the source tree it was built from. Throws Error naming the places
/// where it was looked for.
std::filesystem::path demo_model_path();

}  // namespace hybrid
