# A Homebrew formula for a tap of your own. It installs the source distribution that the variable names:
#   python -m build --sdist
#   HOMEBREW_LLMCTL_SDIST="$PWD/dist/llmctl-VERSION.tar.gz" brew install --formula docs/llmctl.rb
# llama.cpp is compiled for this Mac, with Metal, which takes some minutes.
class Llmctl < Formula
  SDIST = Pathname.new(ENV.fetch("HOMEBREW_LLMCTL_SDIST"))

  desc "From a bare machine to a private language model that is right for it"
  url "file://#{SDIST}"
  sha256 SDIST.sha256
  license "Apache-2.0"

  depends_on "cmake" => :build
  depends_on "python@3.13"

  def install
    system "python3.13", "-m", "venv", libexec
    system libexec/"bin/python", "-m", "pip", "install", "#{buildpath}[documents,serve]"
    bin.install_symlink libexec/"bin/llmctl"
    man1.install "docs/llmctl.1"
    bash_completion.install "completions/llmctl.bash" => "llmctl"
    zsh_completion.install "completions/_llmctl"
    fish_completion.install "completions/llmctl.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/llmctl --version")
    assert_match "fit", shell_output("#{bin}/llmctl plan --machine macbook-air-m2-16gb")
  end
end
