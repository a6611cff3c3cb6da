"""Runs without a record."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
{% if content.unfinished %}
<section aria-labelledby="unfinished">
  <h2 id="unfinished">Not finished</h2>
  <p>These runs have no record. Where they failed, a method may look better than it is.</p>
  <ul class="damaged">
  {% for path, state in content.unfinished %}
    <li><code>{{ path }}</code> {{ state }}</li>
  {% endfor %}
  </ul>
</section>
{% endif %}
"""

SECTION = Section(_MARKUP)
