// One pass of gradient descent over a bfloat16 matrix, every number rounded up or down at random.
//
// The same arithmetic in TensorFlow's own operations makes a dozen passes over temporaries. The
// random numbers are those of tfxc/ops/randomness.py (random_bits), the finaliser of MurmurHash3
// (Appleby, public domain): a hash of the step, the row and the column.

#include "_clones.h"

#define EIGEN_USE_THREADS

#include <cstdint>
#include <cstring>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/kernels/training_op_helpers.h"
#include "tensorflow/core/util/work_sharder.h"

namespace tfxc {

using tensorflow::bfloat16;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using Device = Eigen::ThreadPoolDevice;

REGISTER_OP("TfxcRoundedDescent")
    .Input("variable: resource")
    .Input("gradient: bfloat16")
    .Input("rate: float")
    .Input("kept: float")
    .Input("key: uint32")
    .SetShapeFn(tensorflow::shape_inference::NoOutputs);

inline uint32_t Mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

inline float Widened(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint16_t Rounded(float value, uint32_t noise) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + (noise >> 16)) >> 16);
}

// Rows `begin` to `end`. What it calls is inlined, into each of its versions.
TFXC_CLONES void DescendRows(int64_t begin, int64_t end, int64_t width, uint16_t* weights,
                             const uint16_t* slopes, float rate, float kept, uint32_t key) {
  for (int64_t row = begin; row < end; ++row) {
    uint16_t* __restrict__ w = weights + row * width;
    const uint16_t* __restrict__ g = slopes + row * width;
    const uint32_t by_row = Mixed(static_cast<uint32_t>(row) * 0x27D4EB2Fu + key);
    for (int64_t column = 0; column < width; ++column) {
      const uint32_t noise = Mixed(by_row ^ (static_cast<uint32_t>(column) * 0x165667B1u));
      const float lost = Widened(g[column]) * rate;
      w[column] = Rounded(Widened(w[column]) * kept - lost, noise);
    }
  }
}

class RoundedDescent : public OpKernel {
 public:
  explicit RoundedDescent(OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(OpKernelContext* context) override {
    const auto locks = tensorflow::MaybeLockVariableInputMutexesInOrder<Device, bfloat16>(
        context, /*do_lock=*/true, /*sparse=*/false, {0});
    Tensor table;
    // Makes the buffer our own where another tensor still shares it.
    OP_REQUIRES_OK(context, (tensorflow::GetInputTensorFromVariable<Device, bfloat16>(
                                context, 0, /*lock_held=*/true, /*sparse=*/false, &table)));
    const Tensor& gradient = context->input(1);
    OP_REQUIRES(context, table.dims() == 2 && gradient.shape() == table.shape(),
                tensorflow::errors::InvalidArgument("a matrix and its gradient are expected"));
    const int64_t rows = table.dim_size(0), width = table.dim_size(1);
    uint16_t* weights = reinterpret_cast<uint16_t*>(table.flat<bfloat16>().data());
    const uint16_t* slopes =
        reinterpret_cast<const uint16_t*>(gradient.flat<bfloat16>().data());
    const float rate = context->input(2).scalar<float>()();
    const float kept = context->input(3).scalar<float>()();
    const uint32_t key = context->input(4).scalar<uint32_t>()();
    auto block = [=](int64_t begin, int64_t end) {
      DescendRows(begin, end, width, weights, slopes, rate, kept, key);
    };
    auto* workers = context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(workers->num_threads, workers->workers, rows, width * 4, block);
  }
};

REGISTER_KERNEL_BUILDER(Name("TfxcRoundedDescent").Device(tensorflow::DEVICE_CPU),
                        RoundedDescent);

}  // namespace tfxc
