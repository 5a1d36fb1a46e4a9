// The thin Python side of the native core: arrays in, tuples out, the GIL released meanwhile.
// Shapes and ranges are checked in medtex_edge/image/geometry.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "geometry.hpp"
#include "overlay.hpp"
#include "pool.hpp"
#include "quality_metrics.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Saliency = nb::ndarray<const float, nb::shape<-1, -1>, nb::device::cpu>;
using Table = nb::ndarray<const std::uint8_t, nb::shape<256, 4>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<const std::uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;
using Structure = nb::ndarray<float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<std::uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;

template <class Byte, class Array>
medtex::Picture<Byte> picture(const Array& array) {
    return {array.data(),      static_cast<std::int64_t>(array.shape(0)), static_cast<std::int64_t>(array.shape(1)),
            array.stride(0),   array.stride(1),                           array.stride(2)};
}

using Any = nb::ndarray<const std::uint8_t, nb::device::cpu>;

// A frame of the layout's own shape: (H, W, 3), (H, W), (H, W, 2), or (3 H / 2, W) for nv12.
medtex::Source source(const Any& array, int number) {
    const auto layout = static_cast<medtex::Layout>(number);
    medtex::Source frame;
    frame.layout = layout;
    frame.data = array.data();
    frame.height = static_cast<std::int64_t>(array.shape(0));
    frame.width = static_cast<std::int64_t>(array.shape(1));
    frame.row = array.stride(0);
    frame.column = array.stride(1);
    frame.channel = array.ndim() == 3 ? array.stride(2) : 0;
    if (layout == medtex::Layout::nv12) {
        frame.height = frame.height / 3 * 2;
        frame.chroma = frame.data + frame.height * frame.row;
        frame.chroma_row = frame.row;
    }
    return frame;
}

nb::tuple detect_fov(const Any& image, int layout) {
    medtex::FovDetection detection;
    {
        nb::gil_scoped_release release;
        detection = medtex::detect_fov(source(image, layout));
    }
    return nb::make_tuple(static_cast<int>(detection.status), detection.left, detection.top, detection.side,
                          detection.lit, detection.total, detection.figure);
}

void crop_resize(const Any& image, std::int64_t left, std::int64_t top, std::int64_t side, int layout,
                 const Output& out) {
    nb::gil_scoped_release release;
    medtex::crop_resize(source(image, layout), left, top, side, picture<std::uint8_t>(out));
}

nb::tuple precheck_frame(const Any& frame, int layout) {
    medtex::FramePrecheck precheck;
    {
        nb::gil_scoped_release release;
        precheck = medtex::precheck_frame(source(frame, layout));
    }
    return nb::make_tuple(precheck.digest, precheck.lit, precheck.sampled);
}

nb::tuple quality_metrics(const Input& picture, const Structure& structure) {
    medtex::QualityMetrics sums;
    {
        nb::gil_scoped_release release;
        sums = medtex::quality_metrics(::picture<const std::uint8_t>(picture), structure.data());
    }
    return nb::make_tuple(sums.disc, sums.disc_top, sums.inside, sums.top, sums.grey, sums.clipped, sums.fine,
                          sums.fine_squares, sums.coarse_inside, sums.coarse, sums.coarse_squares);
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
    m.def("detect_fov", &detect_fov, "image"_a.noconvert(), "layout"_a);
    m.def("crop_resize", &crop_resize, "image"_a.noconvert(), "left"_a, "top"_a, "side"_a, "layout"_a,
          "out"_a.noconvert());
    m.def("draw_saliency", &draw_saliency, "frame"_a.noconvert(), "saliency"_a.noconvert(), "left"_a, "top"_a,
          "side"_a, "table"_a.noconvert());
    m.def("precheck_frame", &precheck_frame, "frame"_a.noconvert(), "layout"_a);
    m.def("quality_metrics", &quality_metrics, "picture"_a.noconvert(), "structure"_a.noconvert());
    m.def("set_threads", &medtex::set_threads, "threads"_a, nb::call_guard<nb::gil_scoped_release>());
}
