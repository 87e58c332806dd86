"""The panel of controls at the left of the window: what it shows it reads from the player, what is moved it sets there."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polyscope.imgui as imgui

from hodsim.reduced import ReducedModel
from hodsim.viewer.colour import FIELDS
from hodsim.viewer.film import LiveFilm
from hodsim.viewer.player import Player
from hodsim.viewer.recording import SCHEMES
from hodsim.viewer.scene import COLOURS, Scene

WIDTH, LABELS, COLUMNS = 344, 96, (36, 186, 268)
LARGEST_LOAD = 1.0  # of a slider, in units of the training loads
DTS = (0.001, 0.05)  # [s] the shortest and the longest time step
PAPER, INK, FAINT, ACCENT = (1.0, 1.0, 1.0, 0.93), (0.16, 0.19, 0.24, 1.0), (0.45, 0.49, 0.55, 1.0), (0.16, 0.47, 0.73, 1.0)
WARNING = (0.75, 0.15, 0.05, 1.0)


class Panel:
    """Widgets for a player and its scene. `act` draws them; call it once a frame."""

    def __init__(self, player: Player, scene: Scene, title: str):
        self.player, self.scene, self.title = player, scene, title
        self.message = "Drag the body with the mouse; Shift on letting go pins it there. F pushes, space pauses, S steps, R resets."
        self.film: LiveFilm | None = None
        self.speed, self.frames = 0.0, 0.0  # simulated seconds and frames a real second
        self._errors = {body.name: deque([0.0], maxlen=240) for body in player.bodies}
        self._energies = deque([0.0], maxlen=240)

    def observe(self, elapsed: float, simulated: float) -> None:
        """Take a frame's real and simulated seconds, and the values that are plotted."""
        elapsed = max(elapsed, 1e-6)
        self.speed += min(1.0, elapsed) * (simulated / elapsed - self.speed)  # smoothed over about a second
        self.frames += min(1.0, elapsed) * (1 / elapsed - self.frames)
        if simulated:
            self._energies.append(self.player.bodies[0].energy)
            for body in self.player.bodies:
                self._errors[body.name].append(100 * self.player.error(body))

    def act(self) -> None:
        imgui.SetNextWindowPos((16, 16), imgui.ImGuiCond_Once)
        imgui.SetNextWindowSize((WIDTH, 0), imgui.ImGuiCond_Always)
        colours = {
            imgui.ImGuiCol_WindowBg: PAPER, imgui.ImGuiCol_Text: INK, imgui.ImGuiCol_SliderGrab: ACCENT, imgui.ImGuiCol_PlotLines: ACCENT,
            imgui.ImGuiCol_TitleBg: PAPER, imgui.ImGuiCol_TitleBgActive: PAPER, imgui.ImGuiCol_FrameBg: (0.90, 0.92, 0.95, 1.0),
            imgui.ImGuiCol_Button: (0.86, 0.90, 0.95, 1.0), imgui.ImGuiCol_ButtonHovered: (0.76, 0.85, 0.94, 1.0),
            imgui.ImGuiCol_Header: (0.93, 0.95, 0.98, 1.0), imgui.ImGuiCol_HeaderHovered: (0.86, 0.90, 0.95, 1.0),
        }  # fmt: skip
        for which, colour in colours.items():
            imgui.PushStyleColor(which, colour)
        imgui.Begin(self.title, imgui.ImGuiWindowFlags_NoResize | imgui.ImGuiWindowFlags_NoCollapse)
        self._clock()
        self._bodies()
        self._loads()
        self._stepping()
        self._poses()
        self._looks()
        self._keep()
        imgui.End()
        imgui.PopStyleColor(len(colours))

    def _clock(self) -> None:
        player = self.player
        imgui.BeginDisabled(player.trouble is not None)
        if imgui.Button("Run" if player.paused else "Pause", (100, 0)):
            player.toggle()
        imgui.SameLine()
        if imgui.Button("Step", (100, 0)):
            player.single_step()
        imgui.EndDisabled()
        imgui.SameLine()
        if imgui.Button("Reset", (100, 0)):
            player.start_over()
        if player.trouble is not None:
            imgui.PushTextWrapPos(0.0)
            imgui.TextColored(WARNING, f"Stopped at {player.time:.2f} s. {player.trouble}. Take load off, then reset.")
            imgui.PopTextWrapPos()
        elif player.replaying is not None:
            imgui.ProgressBar(player.recording.steps / player.replaying.steps, (-1.0, 0.0), "replaying")
        imgui.Text(f"{player.time:.2f} s")
        for column, text in zip(COLUMNS[1:], (f"{self.speed:.2f} x real", f"{self.frames:.0f} fps"), strict=True):
            imgui.SameLine(column)
            imgui.Text(text)

    def _bodies(self) -> None:
        """What each body costs, how far it is from the full model, and the energy of the first."""
        for body, colour in zip(self.player.bodies, COLOURS, strict=False):
            imgui.ColorButton(body.name, (*colour, 1.0), imgui.ImGuiColorEditFlags_NoTooltip, (14, 14))
            cost = f"{np.median(body.milliseconds):.2f} ms" if body.milliseconds else "-"
            for column, text in zip(COLUMNS, (body.name, cost, f"{body.state.iterations} it."), strict=True):
                imgui.SameLine(column)
                imgui.Text(text)
            if self.player.truth is not None and isinstance(body.model, ReducedModel):
                error = np.array(self._errors[body.name], np.float32)
                self._plot(f"tip error {error[-1]:.1f} %", error)
        energy = np.array(self._energies, np.float32)
        self._plot(f"energy {energy[-1]:.2f} J", energy)

    def _plot(self, label: str, values: np.ndarray) -> None:
        imgui.TextColored(FAINT, label)
        imgui.SameLine(COLUMNS[0] + 118)
        imgui.PlotLines(
            f"##{label.split()[0]} {id(values)}", values, 0, None, 0.0, 1.1 * float(values.max()) + 1e-6, (WIDTH - COLUMNS[0] - 132, 20)
        )

    def _loads(self) -> None:
        imgui.SeparatorText("Loads, in those of the training")
        imgui.PushItemWidth(WIDTH - LABELS)
        for name, amplitudes in self.player.amplitudes.items():
            if len(amplitudes) == 3:
                _, amplitudes[:] = imgui.SliderFloat3(f"{name} xyz", amplitudes.tolist(), -LARGEST_LOAD, LARGEST_LOAD, "%.2f")
            else:
                _, amplitudes[0] = imgui.SliderFloat(name, float(amplitudes[0]), -LARGEST_LOAD, LARGEST_LOAD, "%.2f")
        imgui.PopItemWidth()
        if imgui.Button("Let go of everything", (-1, 0)):
            self.player.let_go()

    def _stepping(self) -> None:
        if not imgui.CollapsingHeader("Time stepping"):
            return
        player, names = self.player, list(SCHEMES)
        imgui.PushItemWidth(WIDTH - LABELS)
        changed, chosen = imgui.Combo("scheme", names.index(player.scheme), names)
        if changed:
            player.scheme = names[chosen]
        logarithmic = imgui.ImGuiSliderFlags_Logarithmic | imgui.ImGuiSliderFlags_AlwaysClamp
        changed, milliseconds = imgui.SliderFloat("step", 1e3 * player.dt, 1e3 * DTS[0], 1e3 * DTS[1], "%.1f ms", logarithmic)
        if changed:
            player.dt = 1e-3 * milliseconds
        imgui.PopItemWidth()

    def _poses(self) -> None:
        """Walk through the subspace with the dynamics off."""
        player, lead = self.player, self.player.bodies[0]
        if not isinstance(lead.model, ReducedModel) or not imgui.CollapsingHeader("Latent coordinates"):
            return
        changed, held = imgui.Checkbox("hold still and walk through the subspace", player.pose is not None)
        if changed:
            player.pose = lead.state.q.copy() if held else None
        q = lead.state.q if player.pose is None else player.pose
        imgui.BeginDisabled(player.pose is None)
        imgui.PushItemWidth(WIDTH - LABELS)
        reach = max(2.0, float(np.abs(q).max()))
        for k in range(len(q)):
            changed, value = imgui.SliderFloat(f"q{k}", float(q[k]), -reach, reach, "%.2f")
            if changed and player.pose is not None:
                player.pose[k] = value
        imgui.PopItemWidth()
        imgui.EndDisabled()

    def _looks(self) -> None:
        if not imgui.CollapsingHeader("Look"):
            return
        scene, names = self.scene, ["none", *FIELDS]
        imgui.PushItemWidth(WIDTH - LABELS)
        changed, chosen = imgui.Combo("colour", names.index(scene.field), names)
        if changed:
            scene.unpaint()
            scene.field = names[chosen]
        imgui.PopItemWidth()
        if len(self.player.bodies) > 1:
            changed, scene.apart = imgui.Checkbox("side by side", scene.apart)
            if changed:
                scene.arrange()
        if imgui.Button("Camera back", (-1, 0)):
            scene.look()

    def _keep(self) -> None:
        imgui.SeparatorText("Keep")
        if imgui.Button("Save recording", (154, 0)) and self.player.recording.steps:
            self._save(self.player.recording.save, unused("recording", ".json"), "play it again with --replay")
        imgui.SameLine()
        if imgui.Button("Save picture", (154, 0)):
            self._save(self.scene.save_picture, unused("picture", ".png"), "without this panel")
        if imgui.Button("End film" if self.film else "Record film", (-1, 0)):
            self._toggle_film()
        if self.film is not None and self.film.done:
            self.message = self.film.error or f"saved {self.film.path}"
            self.film = None
        imgui.PushTextWrapPos(0.0)
        imgui.TextColored(FAINT, self.message)
        imgui.PopTextWrapPos()

    def _toggle_film(self) -> None:
        if self.film is None:
            self.film = LiveFilm(unused("film", ".mp4"))
            self.message = "recording a film of the scene, without this panel"
        else:
            self.film.finish()
            self.message = f"writing {self.film.path}: {self.film.waiting} frames to go"

    def _save(self, write: Callable[[Path], Path], path: Path, remark: str) -> None:
        """Write a file and say so, or why not."""
        try:
            self.message = f"saved {write(path)}: {remark}"
        except OSError as error:
            self.message = str(error.strerror)


def unused(stem: str, suffix: str) -> Path:
    """The first of stem-1, stem-2, ... in the working directory that is not there yet."""
    return next(path for number in range(1, 10**6) if not (path := Path(f"{stem}-{number}{suffix}")).exists())
