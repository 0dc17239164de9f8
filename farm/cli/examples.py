"""Examples of each command, which its help ends with. The tests parse all of them."""

from __future__ import annotations

EXAMPLES = {
    "": """
farm init own.py latest.pth --data data/val.json   # a first matrix
farm plan matrices/own.yaml                        # its work; runs nothing
farm run matrices/own.yaml                         # run again, it goes on
farm best                                          # the engine to ship
farm COMMAND --help                                # options and examples
""",
    "init": """
farm init own.py work/latest.pth --data data/val.json
farm init own.py work/latest.pth --data VOCdevkit/VOC2007 -o matrices/voc.yaml
farm init own.py work/latest.pth       # the config's own test data
""",
    "run": """
farm run matrices/demo.yaml
farm run matrices/demo.yaml opsets=[17] dataset.limit=100 --executor inline
farm run matrices/demo.yaml --again measure --only unstable
""",
    "pack": """
farm pack matrices/demo.yaml --runtime onnxruntime --output data/demo.tar.gz
farm pack matrices/demo.yaml --target l4 --part-size 60MiB
""",
    "run-pack": """
farm run-pack data/demo.tar.gz --records data/records.tar.gz
farm run-pack data/demo.tar.gz --minutes 30 --limit build=20m
""",
    "import": """
farm import data/records.tar.gz
""",
    "plan": """
farm plan matrices/demo.yaml
farm plan matrices/demo.yaml runtimes=[openvino] --json
""",
    "leaderboard": """
farm leaderboard --target cpu
farm leaderboard --where 'latency_p50_ms < 20ms' --sort=-bbox_mAP --top 5
farm leaderboard --columns cell,bbox_mAP,latency_p50_ms --format csv
""",
    "best": """
farm best --target cpu
farm best --objective ap --max-latency-ms 50 --where 'engine_bytes < 50MB'
farm best --target cpu --model onestage --json
""",
    "report": """
farm report -o data/report.html
farm report --plot data/pareto.png
""",
    "watch": """
farm watch
""",
    "bundle": """
farm bundle onestage.op17.fixed.fp32.openvino.cpu build/onestage
""",
    "check": """
farm check build/onestage
""",
    "diff": """
farm diff runtime=onnxruntime runtime=openvino
farm diff monday friday --max-ap-drop 0.1 --max-slowdown 5
""",
    "compare": """
farm compare --seconds 3 onestage.op11.fixed.fp32.openvino.cpu \\
    onestage.op17.fixed.fp32.openvino.cpu
""",
    "reproduce": """
farm reproduce onestage.op17.fixed.fp32.openvino.cpu
""",
    "bisect": """
farm bisect onestage.op17.fixed.fp32.openvino.cpu
farm bisect onestage.op17.fixed.fp32.openvino.cpu \\
    --versions openvino==2025.2,2026.1
""",
    "export": """
farm export own.py latest.pth --output-file own.onnx --shape 800 1344
farm export own.py latest.pth --opset-version 17 --dynamic-export --verify
""",
    "build": """
farm build own.py own.onnx --runtime openvino --trt-file own.blob --verify
farm build own.py own.onnx --trt-file own.trt --shape 800 --workspace-size 4
""",
    "test": """
farm test own.py own.blob --backend openvino --eval bbox
farm test own.py latest.pth --backend torch --eval bbox segm
""",
    "models": """
farm models --family ssd --opset 13
farm models --families own.yaml --again
""",
    "store": """
farm store verify
farm store verify --discard
""",
    "gc": """
farm gc --keep-sweeps 5 --dry-run
farm gc --older-than 30d --max-size 200GB
""",
    "doctor": """
farm doctor
""",
    "schema": """
farm schema > matrix.schema.json
""",
    "completion": """
source <(farm completion bash)                  # in ~/.bashrc
eval "$(farm completion zsh)"                   # in ~/.zshrc, after compinit
farm completion fish > ~/.config/fish/completions/farm.fish
""",
}


def epilog_of(command: str) -> str | None:
    """Return the end of a command's help; None for one without examples. "": of `farm` itself."""
    if command not in EXAMPLES:
        return None
    lines = EXAMPLES[command].strip().splitlines()
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])
