// The thin Python side of the native core: arrays in, tuples out, the GIL released meanwhile.
// Shapes and ranges are checked in medtex_edge/image.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "geometry.hpp"
#include "overlay.hpp"
#include "pool.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Input = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;
using Saliency = nb::ndarray<const float, nb::shape<-1, -1>, nb::device::cpu>;
using Table = nb::ndarray<const std::uint16_t, nb::shape<256, 4>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<std::uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;

template <class Byte, class Array>
medtex::Picture<Byte> picture(const Array& array) {
    return {array.data(),      static_cast<std::int64_t>(array.shape(0)), static_cast<std::int64_t>(array.shape(1)),
            array.stride(0),   array.stride(1),                           array.stride(2)};
}

nb::tuple look(const Input& image) {
    medtex::Look seen;
    {
        nb::gil_scoped_release release;
        seen = medtex::look(picture<const std::uint8_t>(image));
    }
    return nb::make_tuple(static_cast<int>(seen.status), seen.left, seen.top, seen.side, seen.lit, seen.total,
                          seen.figure);
}

void crop_resize(const Input& image, std::int64_t left, std::int64_t top, std::int64_t side, bool bgr,
                 const Output& out) {
    nb::gil_scoped_release release;
    medtex::crop_resize(picture<const std::uint8_t>(image), left, top, side, bgr, picture<std::uint8_t>(out));
}

void draw_saliency(const Output& frame, const Saliency& saliency, std::int64_t left, std::int64_t top,
                   std::int64_t side, const Table& table) {
    nb::gil_scoped_release release;
    const medtex::Grid grid{saliency.data(), static_cast<std::int64_t>(saliency.shape(0)),
                            static_cast<std::int64_t>(saliency.shape(1)), saliency.stride(0), saliency.stride(1)};
    medtex::draw_saliency(picture<std::uint8_t>(frame), grid, left, top, side, medtex::Scale(table.data()));
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Native pixels of medtex_edge; see medtex_edge/_native.pyi and runtime/native.";
    m.def("look", &look, "image"_a.noconvert());
    m.def("crop_resize", &crop_resize, "image"_a.noconvert(), "left"_a, "top"_a, "side"_a, "bgr"_a,
          "out"_a.noconvert());
    m.def("draw_saliency", &draw_saliency, "frame"_a.noconvert(), "saliency"_a.noconvert(), "left"_a, "top"_a,
          "side"_a, "table"_a.noconvert());
    m.def("set_threads", &medtex::set_threads, "threads"_a, nb::call_guard<nb::gil_scoped_release>());
}
