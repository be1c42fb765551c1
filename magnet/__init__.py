"""MAGneT: synthetic multi-turn counseling sessions written by a team of LLM agents.

Source: Mandal, Chakraborty, Gurevych, arXiv:2509.04183. For research and training only; nothing this
package writes is care, advice or a real person's words.
"""

__version__ = "0.1.0"
