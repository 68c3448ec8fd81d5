"""Try out a model in the browser: type a sentence, swap a word, damage the picture, upload one.

    pip install -r requirements-demo.txt
    python demo.py
    python demo.py --checkpoint checkpoints/best.pt --port 7861

Only this machine can open the page, and the page sends nothing to other machines. The program writes only to a
temporary folder, which it removes at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import tempfile
import threading
from urllib.parse import urlsplit

from checkpoints import add_checkpoint_flag, chosen_checkpoint
from playground.model import MAX_BYTES, MAX_PIXELS, Playground
from runtime.command_line import SMALLER_MODEL, Parser, UserError, exit_code, number
from runtime.devices import choose_device, set_threads

HOST = "127.0.0.1"
MAX_REQUESTS = 4  # in progress at a time; others wait
# The browser may send requests to this server only. Some of Gradio's scripts and styles are inline.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; connect-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
# Variables that Gradio reads at its import. Without the first, matplotlib lists the machine's fonts at each request.
QUIET = {
    "MPLBACKEND": "agg",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
# Variables of the user that could open the page to other machines
OPENING = (
    "GRADIO_SHARE",
    "GRADIO_SERVER_NAME",
    "GRADIO_ROOT_PATH",
    "GRADIO_ALLOWED_PATHS",
    "GRADIO_MCP_SERVER",
    "GRADIO_SSR_MODE",
)


class Policy:
    """ASGI middleware that adds the POLICY to each response."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def import_gradio(folder: str, hosts: list[str]) -> tuple:
    """Import Gradio, with its files in `folder` and no requests to other servers -> (playground.page, middleware).

    hosts: the host names that a browser may ask for. Raises UserError if Gradio is missing.
    """
    os.environ.update(QUIET, GRADIO_TEMP_DIR=folder, MPLCONFIGDIR=folder)
    for name in OPENING:
        os.environ.pop(name, None)
    try:
        from playground import page
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("gradio", "gradio_client"):
            raise
        raise UserError("the page needs gradio: pip install -r requirements-demo.txt") from None
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return page, [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Policy)]


def serve(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C or SIGTERM. Returns the exit code. Raises CheckpointError, UserError, OSError."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        hosts = [HOST, "localhost", urlsplit(args.root_path or "").hostname]
        page, middleware = import_gradio(folder, [name for name in hosts if name])
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow, which Gradio uses, refuses more than twice as many
        set_threads()
        checkpoint = chosen_checkpoint(args.checkpoint)
        blocks = page.build(Playground.open(checkpoint, choose_device(args.device)), os.path.relpath(checkpoint))
        blocks.queue(default_concurrency_limit=MAX_REQUESTS, max_size=64)
        try:
            blocks.launch(
                server_name=HOST,
                server_port=args.port,
                share=False,
                inbrowser=args.open,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=MAX_BYTES,
                state_session_capacity=1000,
                footer_links=[],
                ssr_mode=False,
                mcp_server=False,
                root_path=args.root_path,
                theme=page.theme(),
                css=page.CSS,
                app_kwargs={"middleware": middleware},
            )
        except OSError:
            raise UserError(f"port {args.port or '7860 to 7959'} is in use; name another: --port N") from None
        print(f"the page is at http://{HOST}:{blocks.server_port} (Ctrl-C ends it)", flush=True)
        stop = threading.Event()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: stop.set())
        while not stop.wait(1):  # on Windows, a wait without a timeout blocks signals
            pass
        with contextlib.redirect_stdout(None):
            blocks.close()
    return 0


def root_path(text: str) -> str:
    """A path or address of a page, for argparse."""
    if not re.match(r"/|https?://[^/]", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a path such as /demo nor an address such as https://example.org"
        )
    return text


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("demo.py", __doc__)
    add_checkpoint_flag(parser)
    text = "the port of the page (default: the first free one from 7860)"
    parser.add_argument("--port", type=number(int, 1, 65535), metavar="P", help=text)
    parser.add_argument("--open", action="store_true", help="open the page in the browser, too")
    text = "where a proxy on this machine serves the page, such as /demo or https://example.org/demo"
    parser.add_argument("--root_path", type=root_path, metavar="PATH", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    return exit_code("demo.py", lambda: serve(args), SMALLER_MODEL)


if __name__ == "__main__":
    sys.exit(main())
