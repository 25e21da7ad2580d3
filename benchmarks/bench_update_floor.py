"""Microseconds of one optimizer step (gradients given, global norm clip 0.5): ours packed or not, against
torch.optim.

Usage: python benchmarks/bench_update_floor.py [--repeats 15] [--threads 1]
"""

import argparse
import os
import statistics
import time

NETWORKS = {
    "2x64 actor and critic": [
        (64, 4),
        (64,),
        (64, 64),
        (64,),
        (2, 64),
        (2,),
        (64, 4),
        (64,),
        (64, 64),
        (64,),
        (1, 64),
        (1,),
    ],
    "2x256 actor and two critics": [(256, 17), (256,), (256, 256), (256,), (12, 256), (12,)]
    + [(256, 23), (256,), (256, 256), (256,), (1, 256), (1,)] * 2,
    "Nature CNN": [
        (32, 4, 8, 8),
        (32,),
        (64, 32, 4, 4),
        (64,),
        (64, 64, 3, 3),
        (64,),
        (512, 3136),
        (512,),
        (6, 512),
        (6,),
        (1, 512),
        (1,),
    ],
}


def main() -> None:
    """Print one line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    from alf.optimizers import SGD, Adam

    torch.set_num_threads(args.threads)

    def make_params(shapes):
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        return params

    def ours(cls, shapes, clip=True, **kwargs):
        params = make_params(shapes)
        if clip:
            kwargs.update(gradient_clipping=0.5, clip_by_global_norm=True)
        optimizer = cls(lr=1e-4, **kwargs)
        optimizer.add_param_group({"params": params})
        return optimizer.step

    def theirs(cls, shapes, clip=True, **kwargs):
        params = make_params(shapes)
        optimizer = cls(params, lr=1e-4, **kwargs)

        def step():
            if clip:
                torch.nn.utils.clip_grad_norm_(params, 0.5)
            optimizer.step()

        return step

    for name, shapes in NETWORKS.items():
        steps = {
            "Adam": ours(Adam, shapes),
            "Adam flat=True": ours(Adam, shapes, flat=True),
            "Adam flat=False": ours(Adam, shapes, flat=False),
            "torch fused": theirs(torch.optim.Adam, shapes, fused=True),
            "torch foreach": theirs(torch.optim.Adam, shapes, foreach=True),
            "Adam no clip": ours(Adam, shapes, clip=False),
            "torch fused no clip": theirs(torch.optim.Adam, shapes, clip=False, fused=True),
            "SGD": ours(SGD, shapes),
            "torch fused SGD": theirs(torch.optim.SGD, shapes, fused=True),
        }
        num_calls = 2 if name == "Nature CNN" else 30
        seconds = {key: [] for key in steps}
        for step in steps.values():
            step()
        for _ in range(args.repeats):
            for key, step in steps.items():
                start = time.perf_counter()
                for _ in range(num_calls):
                    step()
                seconds[key].append((time.perf_counter() - start) / num_calls)
        numbers = sum(torch.Size(shape).numel() for shape in shapes)
        print(
            f"{name} ({numbers} numbers): "
            + ", ".join(f"{key} {statistics.median(values) * 1e6:.0f}" for key, values in seconds.items())
        )


if __name__ == "__main__":
    main()
