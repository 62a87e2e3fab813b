_llmctl_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" word cut="" reply
    word="${line##*[[:space:]]}"
    word="${word#--*=}"
    [[ "$COMP_WORDBREAKS" == *:* ]] && cut="${word%"${word##*:}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r reply _; do
        [[ -n "$reply" ]] && COMPREPLY+=("${reply#"$cut"}")
    done < <(env _LLMCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="$line" "$1" 2>/dev/null)
    return 0
}

complete -o default -F _llmctl_completion llmctl
