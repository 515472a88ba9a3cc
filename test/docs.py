#!/usr/bin/env python3
"""docs.py --psql PSQL --scratch DIR [--kafka BROKER] TOP: runs the examples of README.md and docs/*.md.

Every ```sql block is run, in the order of the page, in one session and one database a page.  An ```output block
right after it is what psql must print.  ```sql kafka needs a broker and is skipped without one; ```sql norun
shows a form that stands for many and is not run.  In an example, localhost:9092 is the broker and /tmp/streamext a
folder that exists.  Writes TAP.
"""
import argparse
import glob
import os
import re
import subprocess
import sys

FENCE = re.compile(r"^```(\w*) *(.*)$")


class Block:
    def __init__(self, page, line, words, text):
        self.name = "%s:%d" % (page, line)
        self.words, self.text, self.output = words, text, None


def blocks(top, page):
    """the ```sql blocks of a page, each with the ```output that follows it"""
    found, lines, last = [], [], None
    language = words = start = None
    with open(os.path.join(top, page), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            fence = FENCE.match(line.strip()) if line.lstrip().startswith("```") else None
            if fence and language is None:
                language, words, start, lines = fence.group(1), fence.group(2).split(), number, []
            elif fence:
                if language == "sql":
                    last = Block(page, start, words, "".join(lines))
                    found.append(last)
                elif language == "output" and last:
                    last.output = "".join(lines)
                language = None
            elif language is not None:
                lines.append(line)
            elif line.strip():
                last = None
    return found


class Runner:
    def __init__(self, args):
        self.args = args
        self.number = 0

    def report(self, ok, name, notes=""):
        self.number += 1
        print("%s %d - %s" % ("ok" if ok else "not ok", self.number, name))
        for line in notes.splitlines():
            print("# " + line)

    def psql(self, database, script):
        env = {**os.environ, "PGDATABASE": database, "PGOPTIONS": "-c TimeZone=UTC", "PGCLIENTENCODING": "UTF8"}
        r = subprocess.run([self.args.psql, "-Xq", "-v", "ON_ERROR_STOP=1"], input=script, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=300)
        return r.stdout, r.stderr

    def text(self, block):
        text = block.text.replace("/tmp/streamext", self.args.scratch)
        return text.replace("localhost:9092", self.args.kafka) if self.args.kafka else text

    def make_topics(self, run):
        """the broker of the tests makes no topic by itself"""
        topics = {t for b in run if "kafka" in b.words for t in re.findall(r"topic = '([^']+)'", b.text)}
        for t in sorted(topics):
            subprocess.run([os.path.join(self.args.top, "test/kafka/topic"), self.args.kafka.split(":")[1], "create", t, "4"],
                           check=True, stdout=subprocess.DEVNULL)

    def page(self, page):
        found = [b for b in blocks(self.args.top, page) if "norun" not in b.words]
        run = [b for b in found if "kafka" not in b.words or self.args.kafka]
        if self.args.kafka:
            self.make_topics(run)
        for b in found:
            if b not in run:
                self.report(True, b.name + " # SKIP no Kafka")
        if not run:
            return
        database = "docs_" + re.sub(r"\W", "_", page.lower())
        self.psql("postgres", 'CREATE DATABASE "%s";' % database)
        script = "" if any("CREATE EXTENSION" in b.text for b in run) else "CREATE EXTENSION streamext;\n"
        script += "\n".join("\\echo @block %d\n%s" % (i, self.text(b)) for i, b in enumerate(run)) + "\n\\echo @block end\n"
        out, err = self.psql(database, script)
        parts = re.split(r"^@block (\w+)\n", out, flags=re.M)
        printed = dict(zip(parts[1::2], parts[2::2]))
        for i, b in enumerate(run):
            got = printed.get(str(i), "")
            if str(i) not in printed:
                self.report(False, b.name, "not reached")
            elif str(i + 1) not in printed and not (i + 1 == len(run) and "end" in printed):
                self.report(False, b.name, err)
            elif b.output is not None and squeeze(got) != squeeze(b.output):
                self.report(False, b.name, "expected:\n%s\ngot:\n%s" % (b.output, got))
            else:
                self.report(True, b.name)
        self.psql("postgres", 'DROP DATABASE "%s" WITH (FORCE);' % database)


def squeeze(text):
    """psql pads: white space at the end of lines and empty lines do not count"""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--psql", "--scratch"):
        parser.add_argument(option, required=True)
    parser.add_argument("--kafka")
    parser.add_argument("top")
    args = parser.parse_args()
    runner = Runner(args)
    pages = ["README.md"] + sorted(os.path.relpath(p, args.top) for p in glob.glob(os.path.join(args.top, "docs", "*.md")))
    for page in pages:
        runner.page(page)
    print("1..%d" % runner.number)


if __name__ == "__main__":
    sys.exit(main())
