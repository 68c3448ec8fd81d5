"""demo.py: a real server, asked by programs and in a real Chromium."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import run_forked, run_script, script_command, script_env
from parrot import KNOWN, parrot
from PIL import Image
from test_playground import bad_files

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """demo.py as a process with a home, a temporary and a working folder of its own."""

    def __init__(self, folder, *flags):
        self.folder, self.port = folder, free_port()
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir()
        env = {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "GRADIO_SHARE": "True",
            "GRADIO_SERVER_NAME": "0.0.0.0",
        }
        command = script_command("demo.py", "--checkpoint", parrot(), "--port", self.port, *flags)
        text = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        self.process = subprocess.Popen(command, cwd=folder / "work", env=script_env(env), **text)
        self.said = []
        while "the page is at" not in (line := self.process.stdout.readline()):
            assert line or self.process.poll() is None, self.said
            self.said.append(line)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def client(self):
        return pytest.importorskip("gradio_client").Client(self.url, verbose=False, download_files=False)

    def megabytes(self):
        """Memory in use, as Linux tells it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("gradio")
    server = Server(tmp_path_factory.mktemp("demo"))
    yield server
    server.process.kill()
    server.process.wait()


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


def test_without_gradio_one_line_says_how_to_get_it(tmp_path):
    (tmp_path / "gradio.py").write_text("raise ModuleNotFoundError('none', name='gradio')", encoding="utf-8")
    done = run_forked("demo.py", "--checkpoint", parrot(), cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "demo.py: the page needs gradio: pip install -r requirements-demo.txt\n"


@pytest.mark.slow
def test_a_port_in_use_and_a_missing_checkpoint_are_one_line(server, tmp_path):
    for flags, says in (
        (["--checkpoint", parrot(), "--port", server.port], f"port {server.port} is in use"),
        (["--checkpoint", "no.pt"], "no.pt does not exist"),
    ):
        done = run_script("demo.py", *flags, cwd=tmp_path)
        assert done.returncode == 1 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------------------------


def reading_of(answer):
    """The caption in what the page shows."""
    return re.search(r'class="caption">([^<]*)<', answer)[1]


@pytest.mark.slow
def test_only_this_machine_can_ask(server):
    """The environment cannot share the page; requests for another host name, which can point here, are refused."""
    if sys.platform == "linux":
        lines = Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
        listening = [
            line.split()[1]
            for line in lines
            if line.split()[3] == "0A" and line.split()[1].endswith(f":{server.port:04X}")
        ]
        assert listening == [f"0100007F:{server.port:04X}"]
    import httpx

    answer = httpx.get(server.url)
    assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
    assert httpx.get(server.url, headers={"host": "evil.example"}).status_code == 400
    config = httpx.get(server.url + "config").json()
    assert config["analytics_enabled"] is False and not config.get("is_space")


@pytest.mark.slow
def test_behind_a_proxy_the_page_has_the_address_of_the_proxy(tmp_path):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("gradio")
    server = Server(tmp_path, "--root_path", "https://play.example/demo")
    try:
        config = httpx.get(server.url + "config", headers={"host": "play.example"}).json()
        assert config["root"] == "https://play.example/demo"
        assert httpx.get(server.url, headers={"host": "evil.example"}).status_code == 400
    finally:
        server.process.kill()
        server.process.wait()
    done = run_script("demo.py", "--root_path", "demo", cwd=tmp_path)
    assert done.returncode == 2 and "'demo' is neither a path such as /demo" in done.stderr


@pytest.mark.slow
def test_fifty_requests_and_four_at_once_get_their_own_answers(server):
    clients = [server.client() for _ in range(4)]

    def ask(k, client):
        return reading_of(client.predict(KNOWN[k % 4], api_name="/draw")[2])

    for k in range(10):
        assert ask(k, clients[0]) == KNOWN[k % 4]
    before = server.megabytes() if sys.platform == "linux" else 0
    for k in range(50):
        assert ask(k, clients[0]) == KNOWN[k % 4]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(ask, range(4), clients)) == KNOWN
    if sys.platform == "linux":
        assert server.megabytes() - before < 40


@pytest.mark.slow
def test_each_bad_file_gets_one_message(server, tmp_path):
    from gradio_client import handle_file

    client = server.client()
    for name, says in bad_files(tmp_path).items():
        if name != "empty.png":  # Gradio's own client sends none
            message = client.predict(handle_file(tmp_path / name), api_name="/upload")[0]
            assert re.search(says, message) and message.count("<p") == 1 and name in message, message
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 9_000_000)
    with pytest.raises(Exception, match="maximum|exceed|large|413"):
        client.predict(handle_file(tmp_path / "large.png"), api_name="/upload")
    Image.new("RGB", (300, 200), "orange").save(tmp_path / "photo.jpg")
    assert reading_of(client.predict(handle_file(tmp_path / "photo.jpg"), api_name="/upload")[2])


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path):
    pytest.importorskip("gradio")
    server = Server(tmp_path)
    server.client().predict(KNOWN[0], api_name="/draw")
    assert os.listdir(tmp_path / "work") == []
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert left == [], left


# ---------------------------------------------------------------------------------------------
# In the browser
# ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


class Visitor:
    """Somebody with the page open."""

    def __init__(self, browser, server, **options):
        self.asked, self.faults = [], []
        self.page = browser.new_context(**options).new_page()
        self.page.set_default_timeout(120_000)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(server.url)
        self.shows("#reading .caption", "")

    def shows(self, selector, text):
        """Wait until a part of the page holds a text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for(state="attached")
        return self.page.locator(selector).first.inner_text()

    def draws(self, text):
        self.page.locator("#sentence textarea, #sentence input").first.fill(text)
        self.page.locator("#draw").click()

    def opens(self, name):
        self.page.get_by_role("button", name=name).click()

    def check(self, server):
        """The page asked nobody else, and had no fault."""
        assert [u for u in self.asked if not u.startswith((server.url, "data:", "blob:"))] == []
        assert self.faults == []
        self.page.context.close()


@pytest.mark.slow
def test_type_swap_slide_erase_and_invent(browser, server):
    visitor = Visitor(browser, server, viewport={"width": 1200, "height": 1500})
    page = visitor.page
    visitor.draws(KNOWN[0])
    visitor.shows("#reading .caption", KNOWN[0])
    image = page.locator("#scene img").first
    natural = image.evaluate(
        "e => [e.naturalWidth, e.naturalHeight, getComputedStyle(e).imageRendering, e.clientWidth]"
    )
    assert natural[:3] == [64, 64, "pixelated"] and natural[3] > 200
    assert "background" in visitor.shows("#layers", "background")
    page.locator("#word input").click()
    page.get_by_role("option", name="star", exact=True).or_(
        page.get_by_role("option", name="blue", exact=True)
    ).first.click()
    assert page.locator("#swapped img").count() == 3 or visitor.shows("#swapped", "changes visibly")
    visitor.opens("Damage the picture")
    page.locator("#noise input[type=range]").fill("0.4")
    assert "damaged" in visitor.shows("#damaged", "sure of the whole sentence")
    visitor.opens("Erase a part")
    canvas = page.locator("#editor canvas").first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)  # the editor draws its first frame
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 50, y)
    page.mouse.down()
    page.mouse.move(x + 50, y, steps=10)
    page.mouse.up()
    assert "what is left" in visitor.shows("#erased", "what is left")
    page.locator("#invent").click()
    page.wait_for_function(
        f"() => !document.querySelector('#sentence textarea, #sentence input').value.includes({KNOWN[0]!r})"
    )
    visitor.draws("a red bal")
    assert "nearest known word is 'ball'" in visitor.shows("#message", "unknown word")
    visitor.draws(KNOWN[1])
    visitor.shows("#reading .caption", KNOWN[1])
    assert page.locator("#message .problem").count() == 0
    visitor.check(server)


@pytest.mark.slow
def test_a_picture_of_ones_own(browser, server, tmp_path):
    visitor = Visitor(browser, server)
    page = visitor.page
    visitor.draws(KNOWN[1])
    visitor.shows("#reading .caption", KNOWN[1])
    with page.expect_download() as download:
        page.locator("#scene a[download], #scene button[aria-label*=ownload]").first.click()
    download.value.save_as(tmp_path / "scene.png")
    assert Image.open(tmp_path / "scene.png").size == (64, 64)
    visitor.draws(KNOWN[0])
    visitor.shows("#reading .caption", KNOWN[0])
    visitor.opens("Upload a picture")
    page.locator("#file input[type=file]").set_input_files(tmp_path / "scene.png")
    visitor.shows("#reading .caption", KNOWN[1])
    page.locator("#file button[aria-label*=lear], #file button[aria-label*=emove]").first.click()
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    page.locator("#file input[type=file]").set_input_files(tmp_path / "notes.txt")
    assert "notes.txt is in no picture format" in visitor.shows("#message", "notes.txt")
    assert KNOWN[1] in page.locator("#reading").inner_text()
    visitor.check(server)


@pytest.mark.slow
def test_two_people_do_not_see_each_other(browser, server):
    one, two = Visitor(browser, server), Visitor(browser, server)
    one.draws(KNOWN[0])
    two.draws(KNOWN[1])
    for visitor, text in ((one, KNOWN[0]), (two, KNOWN[1])):
        visitor.shows("#reading .caption", text)
        visitor.opens("Damage the picture")
        visitor.page.locator("#blur input[type=range]").fill("0.3")
        visitor.shows("#damaged .caption", text)
        visitor.check(server)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_in_the_light_and_in_the_dark(browser, server, scheme):
    visitor = Visitor(browser, server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for name in ("Damage the picture", "Erase a part", "Upload a picture"):
        visitor.opens(name)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 360
    paper = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(json.loads("[" + ",".join(re.findall(r"\d+", paper)[:3]) + "]")) / 3
    assert (light > 128) == (scheme == "light")
    visitor.check(server)
