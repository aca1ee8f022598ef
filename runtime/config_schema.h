#pragma once

#include <nlohmann/json_fwd.hpp>

namespace hybrid {

/// The JSON Schema (draft 2020-12) of config files: what this version takes of the option table,
/// and "rules" and "devices". configs/schema.json is its text; scripts/update_docs.sh writes it.
nlohmann::ordered_json config_schema();

}  // namespace hybrid
