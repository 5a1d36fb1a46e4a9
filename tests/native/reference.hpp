// The reference of the core's tests: the definitions, pixel by pixel, in one thread, without regard to speed.
#pragma once

#include <cstdint>

#include "quality_metrics.hpp"
#include "geometry.hpp"
#include "overlay.hpp"

namespace reference {

// One pixel as RGB, or as the channels come.
medtex::Colour colour(const medtex::Source& frame, std::int64_t y, std::int64_t x);

void crop_resize(const medtex::Source& frame, std::int64_t left, std::int64_t top, std::int64_t side,
                 const medtex::Target& out);

// table: as for medtex::Scale.
void draw_saliency(const medtex::Target& frame, const medtex::Grid& grid, std::int64_t left, std::int64_t top,
                   std::int64_t side, const std::uint8_t* table);

medtex::FramePrecheck precheck_frame(const medtex::Source& frame);

medtex::QualityMetrics quality_metrics(const medtex::Picture<const std::uint8_t>& picture, float* structure);

}  // namespace reference
